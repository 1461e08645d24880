//! How often a client may be wrong.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cqi_core::peers::client_of;
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);

/// The most clients that are watched.
const MAX_CLIENTS: usize = 10_000;

/// Wrong credentials by client and minute.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Clients>);

#[derive(Debug, Default)]
struct Clients {
    windows: HashMap<IpAddr, Window>,
    /// When old windows were last thrown away.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    count: u32,
}

impl Failures {
    /// Counts one. Gives the time to wait when there were more than `most` in this minute.
    pub(super) fn count(&self, address: IpAddr, most: u32) -> Option<Duration> {
        let (client, now) = (client_of(address), Instant::now());
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.windows.len() >= MAX_CLIENTS {
            clients.sweep(now);
        }
        if clients.windows.len() >= MAX_CLIENTS && !clients.windows.contains_key(&client) {
            return Some(WINDOW);
        }
        let fresh = || Window {
            ends: now + WINDOW,
            count: 0,
        };
        let window = clients.windows.entry(client).or_insert_with(fresh);
        if window.ends <= now {
            *window = fresh();
        }
        window.count = window.count.saturating_add(1);
        (window.count > most).then(|| window.ends - now)
    }
}

impl Clients {
    /// Throws away what is over, at most once a second: it looks at all of them.
    fn sweep(&mut self, now: Instant) {
        let recent = |swept: Instant| now - swept < Duration::from_secs(1);
        if !self.swept.is_some_and(recent) {
            self.swept = Some(now);
            self.windows.retain(|_, window| window.ends > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_25_so_many_a_minute_and_no_more_clients_than_there_is_room_for() {
        let failures = Failures::default();
        let one = "2001:db8::1".parse().unwrap();
        assert_eq!([1, 2].map(|_| failures.count(one, 2)), [None, None]);
        tokio::time::advance(Duration::from_secs(20)).await;
        let neighbour = "2001:db8::2".parse().unwrap();
        assert_eq!(failures.count(neighbour, 2), Some(Duration::from_secs(40)));
        assert_eq!(failures.count("2001:db8:0:1::1".parse().unwrap(), 2), None);
        for client in 0..20_000u32 {
            failures.count(IpAddr::from(client.to_be_bytes()), 2);
        }
        assert!(failures.0.lock().unwrap().windows.len() <= MAX_CLIENTS);
        tokio::time::advance(WINDOW).await;
        assert_eq!(failures.count(one, 2), None);
        assert_eq!(failures.0.lock().unwrap().windows.len(), 1);
    }
}
