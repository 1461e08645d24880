//! How much each client may ask for.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cqi_core::{Code, Error, Result, peers::client_of};
use http::Extensions;
use tokio::time::Instant;

use crate::client_ip::client_ip;

/// A rate per client: a token bucket that holds `burst` and is filled evenly with `requests` in each `per`.
///
/// A client is an IPv4 address or an IPv6 /64; behind trusted proxies, what they say. Over it the answer is 429 with
/// `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests in each `per`, in the long run.
    pub requests: u32,
    /// The time in which they are counted.
    pub per: Duration,
    /// How many at once, after a silence.
    pub burst: u32,
    /// How many clients are remembered, some 50 bytes each; further ones share one bucket. Default 100,000.
    pub max_clients: usize,
}

impl RateLimit {
    /// This many a second, and as many at once.
    pub fn per_second(requests: u32) -> Self {
        Self::every(Duration::from_secs(1), requests)
    }

    /// This many a minute, and as many at once.
    pub fn per_minute(requests: u32) -> Self {
        Self::every(Duration::from_secs(60), requests)
    }

    fn every(per: Duration, requests: u32) -> Self {
        Self {
            requests,
            per,
            burst: requests,
            max_clients: 100_000,
        }
    }

    /// The rule that it breaks, if any.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let day = Duration::from_secs(24 * 60 * 60);
        if self.requests == 0 || self.burst == 0 || self.max_clients == 0 {
            return Some("must have requests, burst and max_clients above zero");
        }
        (self.per.is_zero() || self.per > day).then_some("must have a time above zero and at most a day")
    }
}

/// The buckets of one [`RateLimit`].
///
/// Of each client only the moment is kept at which its bucket will be full again, in nanoseconds after `begun`: the
/// generic cell rate algorithm. A bucket that is full is as good as none.
#[derive(Debug)]
pub(crate) struct Limiter {
    interval: u64,
    capacity: u64,
    max_clients: usize,
    begun: Instant,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    full_at: HashMap<IpAddr, u64>,
    /// Shared by the clients for whom there was no room.
    others: u64,
    /// Before this moment, looking for full buckets again would find few.
    next_sweep: u64,
}

impl Limiter {
    /// # Errors
    /// `InvalidInput` naming the rule that the limit breaks.
    pub(crate) fn new(limit: RateLimit) -> Result<Self> {
        if let Some(fault) = limit.fault() {
            return Err(Error::invalid_input(format!("rate limit {fault}")));
        }
        // A day has less than 2^47 nanoseconds.
        let nanos = u64::try_from(limit.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (nanos / u64::from(limit.requests)).max(1);
        Ok(Self {
            interval,
            capacity: interval.saturating_mul(u64::from(limit.burst)),
            max_clients: limit.max_clients,
            begun: Instant::now(),
            buckets: Mutex::default(),
        })
    }

    /// Takes one token of the client that these extensions are of.
    ///
    /// # Errors
    /// `Temporary`/`RateLimited` with the time until the next token.
    pub(crate) fn take(&self, extensions: &Extensions) -> Result<()> {
        // Without a server in front, in tests of a router, all are one client.
        let address = client_ip(extensions).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.of(client_of(address), now, self);
        let next = (*full_at).max(now).saturating_add(self.interval);
        let missing = next.saturating_sub(now).saturating_sub(self.capacity);
        if missing == 0 {
            *full_at = next;
            return Ok(());
        }
        drop(buckets);
        Err(Error::temporary("too many requests")
            .with_code(Code::RateLimited)
            .with_retry_after(Duration::from_nanos(missing)))
    }
}

impl Buckets {
    fn of(&mut self, client: IpAddr, now: u64, limiter: &Limiter) -> &mut u64 {
        let full = self.full_at.len() >= limiter.max_clients;
        if full && !self.full_at.contains_key(&client) {
            if now >= self.next_sweep {
                self.full_at.retain(|_, full_at| *full_at > now);
                self.next_sweep = now.saturating_add(limiter.capacity);
            }
            if self.full_at.len() >= limiter.max_clients {
                return &mut self.others;
            }
        }
        self.full_at.entry(client).or_insert(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;

    use super::*;

    fn take(limiter: &Limiter, client: &str) -> Option<Duration> {
        let mut extensions = Extensions::new();
        let peer = SocketAddr::new(client.parse().unwrap(), 1);
        extensions.insert(ConnectInfo(peer));
        let error = limiter.take(&extensions).err()?;
        assert_eq!(error.http_status(), 429);
        Some(error.retry_after().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_client_has_a_bucket_that_refills_evenly() {
        let limiter = Limiter::new(RateLimit {
            burst: 3,
            ..RateLimit::per_second(2)
        })
        .unwrap();
        for _ in 0..3 {
            assert_eq!(take(&limiter, "192.0.2.1"), None);
        }
        assert_eq!(take(&limiter, "192.0.2.1"), Some(Duration::from_millis(500)));
        assert_eq!(take(&limiter, "192.0.2.2"), None);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(take(&limiter, "192.0.2.1"), Some(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(take(&limiter, "192.0.2.1"), None);
        assert!(take(&limiter, "192.0.2.1").is_some());
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..3 {
            assert_eq!(
                take(&limiter, "192.0.2.1"),
                None,
                "no more than the burst is saved"
            );
        }
        assert!(take(&limiter, "192.0.2.1").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_clients_are_remembered_than_allowed() {
        let limiter = Limiter::new(RateLimit {
            max_clients: 2,
            ..RateLimit::per_second(1)
        })
        .unwrap();
        for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            assert_eq!(take(&limiter, client), None);
        }
        assert!(
            take(&limiter, "192.0.2.4").is_some(),
            "shares the bucket of the third"
        );
        assert!(take(&limiter, "192.0.2.1").is_some());
        let remembered = || limiter.buckets.lock().unwrap().full_at.len();
        assert_eq!(remembered(), 2);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(take(&limiter, "192.0.2.4"), None);
        assert_eq!(remembered(), 1, "full buckets were forgotten");
    }

    #[test]
    fn limits_without_sense_are_refused() {
        for bad in [
            RateLimit::per_second(0),
            RateLimit {
                burst: 0,
                ..RateLimit::per_minute(1)
            },
            RateLimit {
                per: Duration::MAX,
                ..RateLimit::per_minute(1)
            },
        ] {
            assert!(Limiter::new(bad).unwrap_err().is_invalid_input());
        }
    }
}
