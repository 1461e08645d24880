//! Telling the registry where this service is.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    config::RegistryConfig,
    registry::{KeepAlive, KeepAliveOptions, Registry, ServiceInfo},
    service::{Lifecycle, Service},
};

/// The metadata entry with the port of the gRPC server, which channels that ask the registry look for.
const GRPC_PORT: &str = "grpc_port";

/// Registers the servers' addresses once they are known, and keeps the registration alive.
pub(crate) struct Registration {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) config: RegistryConfig,
    #[cfg(feature = "http")]
    pub(crate) http: Option<cqi_http::Bound>,
    #[cfg(feature = "grpc")]
    pub(crate) grpc: Option<cqi_grpc::Bound>,
}

impl Registration {
    /// Whether there is anything to register.
    pub(crate) fn has_servers(&self) -> bool {
        #[cfg(feature = "http")]
        if self.http.is_some() {
            return true;
        }
        #[cfg(feature = "grpc")]
        if self.grpc.is_some() {
            return true;
        }
        false
    }

    async fn http(&mut self) -> Result<Option<SocketAddr>> {
        #[cfg(feature = "http")]
        if let Some(bound) = &mut self.http {
            return bound.address().await.map(Some);
        }
        Ok(None)
    }

    async fn grpc(&mut self) -> Result<Option<SocketAddr>> {
        #[cfg(feature = "grpc")]
        if let Some(bound) = &mut self.grpc {
            return bound.address().await.map(Some);
        }
        Ok(None)
    }
}

#[async_trait]
impl Service for Registration {
    fn name(&self) -> &'static str {
        "registry"
    }

    async fn run(mut self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        let (http, grpc) = (self.http().await?, self.grpc().await?);
        // The port of a service is that of HTTP, if it has both.
        let bound = http.or(grpc).ok_or_else(|| Error::closed("the servers"))?;
        let address = match &*self.config.address {
            // Listening on every address says nothing about how to be reached.
            "" if bound.ip().is_unspecified() => "localhost".to_owned(),
            "" => bound.ip().to_string(),
            configured => configured.to_owned(),
        };
        let mut info = ServiceInfo::new(self.name, self.version, address, bound.port());
        if http.is_some() {
            info = info.with_health_endpoint("/health/ready");
        }
        if let Some(grpc) = grpc {
            info = info.with_metadata(GRPC_PORT, grpc.port().to_string());
        }
        let options = KeepAliveOptions {
            interval: self.config.heartbeat_interval,
            ttl: self.config.ttl,
        };
        Box::new(KeepAlive::new(self.registry, info, options)?)
            .run(lifecycle)
            .await
    }
}
