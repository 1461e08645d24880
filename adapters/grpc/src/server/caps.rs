//! How many connections one client may have.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::client_of;

/// Open connections by client.
#[derive(Debug, Clone, Default)]
pub(super) struct Caps(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One open connection.
#[derive(Debug)]
pub(super) struct Place {
    client: IpAddr,
    caps: Caps,
}

impl Caps {
    /// Counts a connection until its place is dropped; `None` when the client has `most` already.
    pub(super) fn take(&self, address: IpAddr, most: usize) -> Option<Place> {
        let client = client_of(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        let caps = self.clone();
        Some(Place { client, caps })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.caps.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get_mut(&self.client) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_02_a_client_has_no_more_connections_than_it_may_and_nothing_is_kept_of_it() {
        let caps = Caps::default();
        let take = |address: &str| caps.take(address.parse().unwrap(), 2);
        let (one, two) = (take("10.0.0.1"), take("::ffff:10.0.0.1"));
        assert!(one.is_some() && two.is_some() && take("10.0.0.1").is_none());
        let other = take("10.0.0.2");
        assert!(other.is_some());
        drop(one);
        assert!(take("10.0.0.1").is_some());
        drop((two, other));
        assert!(caps.0.lock().unwrap().is_empty());
    }
}
