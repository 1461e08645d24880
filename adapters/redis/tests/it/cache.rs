//! The cache suite.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{Result, cache::Cache};
use cqi_redis::RedisCache;
use cqi_testkit::conformance::{Profile, cache::CacheHarness};

use crate::server::Server;

struct Harness;

#[async_trait]
impl CacheHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Cache>> {
        Ok(Arc::new(RedisCache::connect(Server::shared().options()).await?))
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }
}

cqi_testkit::cache_suite!(Harness);
