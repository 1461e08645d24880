//! Telling the registry where this service is.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Result,
    config::RegistryConfig,
    registry::{KeepAlive, KeepAliveOptions, Registry, ServiceInfo},
    service::{Lifecycle, Service},
};
use cqi_http::Bound;

/// Registers the HTTP server's address once it is known, and keeps the registration alive.
pub(crate) struct Registration {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) config: RegistryConfig,
    pub(crate) bound: Bound,
}

#[async_trait]
impl Service for Registration {
    fn name(&self) -> &'static str {
        "registry"
    }

    async fn run(mut self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        let bound = self.bound.address().await?;
        let address = match &*self.config.address {
            // Listening on every address says nothing about how to be reached.
            "" if bound.ip().is_unspecified() => "localhost".to_owned(),
            "" => bound.ip().to_string(),
            configured => configured.to_owned(),
        };
        let info = ServiceInfo::new(self.name, self.version, address, bound.port())
            .with_health_endpoint("/health/ready");
        let options = KeepAliveOptions {
            interval: self.config.heartbeat_interval,
            ttl: self.config.ttl,
        };
        Box::new(KeepAlive::new(self.registry, info, options)?)
            .run(lifecycle)
            .await
    }
}
