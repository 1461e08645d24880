//! Whether the cache answers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::Cache;
use crate::{Error, Result, health::Checker};

/// Checks a cache by [`Cache::ping`], under a timeout of 5 seconds (CCH-10).
#[derive(Debug, Clone)]
pub struct CacheChecker {
    cache: Arc<dyn Cache>,
    timeout: Duration,
}

impl CacheChecker {
    /// A checker named `cache`.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self {
            cache,
            timeout: Duration::from_secs(5),
        }
    }

    /// Changes the timeout.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

#[async_trait]
impl Checker for CacheChecker {
    fn name(&self) -> &str {
        "cache"
    }

    async fn check(&self) -> Result<()> {
        tokio::time::timeout(self.timeout, self.cache.ping())
            .await
            .unwrap_or_else(|_| Err(Error::timeout(self.timeout).with_operation("cache.ping")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Code,
        cache::{MemoryCache, testing::Faulty},
    };

    #[tokio::test(start_paused = true)]
    async fn cch_10_up_down_and_up_again_are_all_reported() {
        let cache = Arc::new(Faulty::new(MemoryCache::default()));
        let checker = CacheChecker::new(Arc::<Faulty>::clone(&cache));
        assert_eq!(checker.name(), "cache");
        checker.check().await.unwrap();
        cache.fail_all(Some(&Error::temporary("connection refused")));
        assert_eq!(checker.check().await.unwrap_err().message(), "connection refused");
        cache.fail_all(None);
        checker.check().await.unwrap();
        cache.hang();
        assert_eq!(checker.check().await.unwrap_err().code(), Some(Code::Timeout));
    }
}
