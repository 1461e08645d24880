//! A cache under a policy.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tracing::{Span, field::Empty};

use super::{Cache, Capabilities, Condition, SetOptions};
use crate::{
    Result,
    observe::Observation,
    policy::{Policy, Repeat},
};

/// A cache whose every call has a deadline, is repeated where that is safe, and is observed. When the current trace is
/// recorded, every call has a span (`cache.get`, …); the one of a lookup says whether it was a hit (TRC-7).
///
/// Reads, deletes and plain sets are repeated after any temporary failure. Conditional sets and [`Cache::add`] are
/// repeated only after a failure that certainly had no effect: a lost reply must not turn into "someone else has it"
/// or count twice. A delete that is repeated after a lost reply may say that there was nothing.
#[derive(Debug, Clone)]
pub struct GuardedCache {
    cache: Arc<dyn Cache>,
    policy: Policy,
}

impl GuardedCache {
    /// Puts `cache` under `policy`.
    pub fn new(cache: Arc<dyn Cache>, policy: Policy) -> Self {
        Self { cache, policy }
    }
}

/// The span of a call, if its trace is recorded. Names are constants, so this is a macro. Keys and values are not in it.
macro_rules! span {
    ($policy:expr, $name:literal) => {
        if $policy.records_trace() {
            tracing::info_span!($name, cache.hit = Empty, error.type = Empty)
        } else {
            Span::none()
        }
    };
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Cache for GuardedCache {
    fn capabilities(&self) -> Capabilities {
        self.cache.capabilities()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let span = span!(self.policy, "cache.get");
        let get = || self.cache.get(key);
        let result = self
            .policy
            .call_in(span.clone(), "cache.get", Repeat::Safe, get)
            .await;
        if let Ok(value) = &result {
            let hit = value.is_some();
            span.record("cache.hit", hit);
            tracing::debug!(hit, "cache lookup");
            self.policy.observer().observe(&Observation::CacheLookup { hit });
        }
        result
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        let repeat = match options.condition {
            Condition::Always => Repeat::Safe,
            Condition::IfAbsent | Condition::IfPresent => Repeat::Unsafe,
        };
        let attempt = || self.cache.set(key, value.clone(), options);
        self.policy
            .call_in(span!(self.policy, "cache.set"), "cache.set", repeat, attempt)
            .await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let (span, delete) = (span!(self.policy, "cache.delete"), || self.cache.delete(key));
        self.policy
            .call_in(span, "cache.delete", Repeat::Safe, delete)
            .await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let (span, exists) = (span!(self.policy, "cache.exists"), || self.cache.exists(key));
        self.policy
            .call_in(span, "cache.exists", Repeat::Safe, exists)
            .await
    }

    async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let attempt = || self.cache.add(key, delta, ttl);
        self.policy
            .call_in(
                span!(self.policy, "cache.add"),
                "cache.add",
                Repeat::Unsafe,
                attempt,
            )
            .await
    }

    async fn ping(&self) -> Result<()> {
        let (span, ping) = (span!(self.policy, "cache.ping"), || self.cache.ping());
        self.policy.call_in(span, "cache.ping", Repeat::Safe, ping).await
    }

    async fn close(&self) -> Result<()> {
        let (span, close) = (span!(self.policy, "cache.close"), || self.cache.close());
        self.policy
            .call_in(span, "cache.close", Repeat::Safe, close)
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        Code, Error,
        cache::{MemoryCache, testing::Faulty},
        observe::Observer,
        policy::Retry,
        trace::TraceContext,
    };

    #[derive(Debug, Default)]
    struct Lookups(Mutex<Vec<bool>>);

    impl Observer for Lookups {
        fn observe(&self, observation: &Observation<'_>) {
            if let Observation::CacheLookup { hit } = observation {
                self.0.lock().unwrap().push(*hit);
            }
        }

        fn current_trace(&self) -> Option<TraceContext> {
            None
        }
    }

    const TTL: SetOptions = SetOptions::ttl(Duration::from_secs(60));

    fn guarded() -> (Arc<Faulty>, GuardedCache) {
        let faulty = Arc::new(Faulty::new(MemoryCache::default()));
        let cache: Arc<dyn Cache> = Arc::<Faulty>::clone(&faulty);
        let policy = Policy::new(Duration::from_secs(60), Retry::default());
        (faulty, GuardedCache::new(cache, policy))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_reply_is_repeated_only_where_that_is_safe() {
        let (faulty, cache) = guarded();
        faulty.fail_all(Some(&Error::temporary("cut off").maybe_applied()));
        let value = || Bytes::from_static(b"1");
        assert!(cache.get("a").await.is_err());
        assert!(cache.exists("a").await.is_err());
        assert!(cache.delete("a").await.is_err());
        assert!(cache.set("a", value(), TTL).await.is_err());
        assert!(cache.ping().await.is_err());
        for method in ["get", "exists", "delete", "set", "ping"] {
            assert_eq!(faulty.calls(method), 3, "{method}");
        }
        for condition in [Condition::IfAbsent, Condition::IfPresent] {
            assert!(cache.set("b", value(), TTL.when(condition)).await.is_err());
        }
        assert!(cache.add("n", 1, None).await.is_err());
        assert_eq!((faulty.calls("set"), faulty.calls("add")), (5, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_without_effect_is_always_repeated() {
        let (faulty, cache) = guarded();
        faulty.fail_all(Some(&Error::temporary("connection refused")));
        assert!(cache.add("n", 1, None).await.is_err());
        assert_eq!(faulty.calls("add"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn f_cache_01_the_deadline_bounds_a_call_that_hangs() {
        let (faulty, cache) = guarded();
        faulty.hang();
        let error = cache.get("a").await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Timeout));
        assert!(error.to_string().starts_with("cache.get: "), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_are_observed_and_failures_are_no_lookups() {
        let lookups = Arc::new(Lookups::default());
        let faulty = Arc::new(Faulty::new(MemoryCache::default()));
        let observer: Arc<dyn Observer> = Arc::<Lookups>::clone(&lookups);
        let policy = Policy::default().with_observer(observer);
        let cache = GuardedCache::new(Arc::<Faulty>::clone(&faulty), policy);
        cache.get("a").await.unwrap();
        cache.set("a", Bytes::new(), TTL).await.unwrap();
        cache.get("a").await.unwrap();
        faulty.fail("get", Some(Error::permanent("x")));
        cache.get("a").await.unwrap_err();
        assert_eq!(*lookups.0.lock().unwrap(), [false, true]);
    }
}
