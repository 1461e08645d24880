//! The registry suite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{Result, registry::Registry};
use cqi_redis::{RedisRegistry, RedisRegistryOptions};
use cqi_testkit::conformance::{Profile, registry::RegistryHarness};

use crate::server::Server;

struct Harness;

#[async_trait]
impl RegistryHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Registry>> {
        let options = RedisRegistryOptions {
            redis: Server::shared().options(),
            ttl: self.time_to_live(),
        };
        Ok(Arc::new(RedisRegistry::connect(options).await?))
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn time_to_live(&self) -> Duration {
        Duration::from_secs(3)
    }
}

cqi_testkit::registry_suite!(Harness);
