//! The registry suite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{Result, registry::Registry};
use cqi_redis::{RedisOptions, RedisRegistry, RedisRegistryOptions};
use cqi_testkit::{
    conformance::{Profile, registry::RegistryHarness},
    fixture::{self, Kind},
};

struct Harness;

#[async_trait]
impl RegistryHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Registry>> {
        let server = fixture::shared(Kind::Redis).expect("a server");
        let options = RedisRegistryOptions {
            redis: RedisOptions::from_url(server.url())?,
            ttl: self.time_to_live(),
        };
        Ok(Arc::new(RedisRegistry::connect(options).await?))
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

    fn time_to_live(&self) -> Duration {
        Duration::from_secs(3)
    }
}

cqi_testkit::registry_suite!(Harness);
