//! How many connections one client may have.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::client_ip::source;

/// Counts open connections by client; no larger than their number.
#[derive(Debug, Clone, Default)]
pub(super) struct PerClient(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One open connection.
#[derive(Debug)]
pub(super) struct Counted {
    client: IpAddr,
    all: PerClient,
}

impl PerClient {
    /// Counts a connection until its guard is dropped; `None` when the client has `most` already.
    pub(super) fn admit(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let client = source(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
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
    }
}
