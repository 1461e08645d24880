//! A range of IP addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use cqi_core::{Error, Result};

/// A range of IP addresses, as `10.0.0.0/8`, `fd00::/8` or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether it has this address. An IPv4 address is the same in its IPv6 form `::ffff:a.b.c.d`.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.prefix) == Some(self.address)
    }
}

/// The first `prefix` bits of an address; `None` where it has fewer.
pub(super) fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let spare = 32u8.checked_sub(prefix)?;
            Some(IpAddr::V4(
                (v4.to_bits() & u32::MAX.checked_shl(spare.into()).unwrap_or(0)).into(),
            ))
        }
        IpAddr::V6(v6) => {
            let spare = 128u8.checked_sub(prefix)?;
            Some(IpAddr::V6(
                (v6.to_bits() & u128::MAX.checked_shl(spare.into()).unwrap_or(0)).into(),
            ))
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::invalid_input("a network must be an address, or an address and a prefix as 10.0.0.0/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None if address.to_canonical().is_ipv4() => 32,
            None => 128,
        };
        let address = masked(address, prefix).ok_or_else(wrong)?;
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        let has = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("10.1.2.3/8", "10.0.0.9") && has("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(has("0.0.0.0/0", "1.2.3.4") && !has("0.0.0.0/0", "::1"));
        assert!(has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7", "192.0.2.8"));
        assert!(has("fd00::/8", "fd12::1") && !has("fd00::/8", "fe80::1") && !has("::/0", "1.2.3.4"));
        assert_eq!("10.1.2.3/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for bad in [
            "",
            "a",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "1.2.3.4/8/8",
        ] {
            assert!(bad.parse::<Network>().unwrap_err().is_invalid_input(), "{bad}");
        }
    }
}
