//! The cache suite.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{Result, cache::Cache};
use cqi_redis::{RedisCache, RedisOptions};
use cqi_testkit::{
    conformance::{Profile, cache::CacheHarness},
    fixture::{self, Kind},
};

struct Harness;

#[async_trait]
impl CacheHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Cache>> {
        let server = fixture::shared(Kind::Redis).expect("a server");
        Ok(Arc::new(
            RedisCache::connect(RedisOptions::from_url(server.url())?).await?,
        ))
    }

    fn adapter(&self) -> &'static str {
        "Redis"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Redis)
    }
}

cqi_testkit::cache_suite!(Harness);
