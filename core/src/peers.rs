//! Whom limits count as one client, and how many connections it has: the same for every protocol.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The client behind an address: an IPv4 address, or the /64 of an IPv6 one, in which a host may choose at will.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// Counts open connections by [client](client_of); no larger than their number. Cheap to clone: clones count together.
#[derive(Debug, Clone, Default)]
pub struct PerClient(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One open connection, counted until it is dropped.
#[derive(Debug)]
pub struct Counted {
    client: IpAddr,
    all: PerClient,
}

impl PerClient {
    /// Counts a connection until its guard is dropped; `None` when the client has `most` already.
    pub fn admit(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let client = client_of(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked up before it is put in: who is refused must leave nothing behind.
        let count = counts.get(&client).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        counts.insert(client, count + 1);
        drop(counts);
        Some(Counted {
            client,
            all: self.clone(),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_02_a_client_has_no_more_connections_than_it_may() {
        let all = PerClient::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (one, two) = (
            all.admit(address("2001:db8::1"), 2),
            all.admit(address("2001:db8::2"), 2),
        );
        assert!(one.is_some() && two.is_some());
        assert!(all.admit(address("2001:db8::3"), 2).is_none(), "the same /64");
        assert!(all.admit(address("2001:db8:1::1"), 2).is_some(), "another client");
        drop(one);
        assert!(all.admit(address("2001:db8::3"), 2).is_some());
        drop(two);
        assert!(all.0.lock().unwrap().is_empty(), "nothing is kept");
        assert!(all.admit(address("2001:db8::1"), 0).is_none());
        assert!(all.0.lock().unwrap().is_empty(), "not even of whom is refused");
    }

    #[test]
    fn h_02_both_forms_of_an_ipv4_address_are_one_client_and_nothing_is_kept_of_it() {
        let all = PerClient::default();
        let take = |address: &str| all.admit(address.parse().unwrap(), 2);
        let (one, two) = (take("10.0.0.1"), take("::ffff:10.0.0.1"));
        assert!(one.is_some() && two.is_some() && take("10.0.0.1").is_none());
        let other = take("10.0.0.2");
        assert!(other.is_some());
        drop(one);
        assert!(take("10.0.0.1").is_some());
        drop((two, other));
        assert!(all.0.lock().unwrap().is_empty());
    }
}
