//! Whom limits count as one client.

use std::net::{IpAddr, Ipv6Addr};

/// The client behind an address: an IPv4 address, or the /64 of an IPv6 one, in which a host may choose at will.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}
