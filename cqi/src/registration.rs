//! Telling the registry where this service is.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    config::RegistryConfig,
    registry::{KeepAlive, KeepAliveOptions, Registry, ServiceInfo},
    service::{Lifecycle, Service},
};

/// The metadata entry with the port of the gRPC server, which channels that ask the registry look for.
const GRPC_PORT: &str = "grpc_port";
const LOCALHOST: &str = "localhost";

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

/// The address to register for a server that is bound to `ip`.
fn reached_at(config: &RegistryConfig, ip: IpAddr) -> String {
    match &*config.address {
        // Listening on every address says nothing about how to be reached.
        "" if ip.is_unspecified() => LOCALHOST.to_owned(),
        "" => ip.to_string(),
        configured => configured.to_owned(),
    }
}

/// Whether others read this address and do not get here with it.
fn is_lost(config: &RegistryConfig, address: &str) -> bool {
    config.address.is_empty() && address == LOCALHOST && config.backend() != "memory"
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
        let address = reached_at(&self.config, bound.ip());
        if is_lost(&self.config, &address) {
            tracing::warn!(
                "registered as localhost, where only this machine finds it; set registry.address to what others reach it by"
            );
        }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_registry_that_others_read_is_not_told_of_localhost_in_silence() {
        let mut config = RegistryConfig::default();
        let told = |config: &RegistryConfig, ip: [u8; 4]| {
            let address = reached_at(config, Ipv4Addr::from(ip).into());
            let lost = is_lost(config, &address);
            (address, lost)
        };
        assert_eq!(told(&config, [0; 4]), ("localhost".into(), false), "in memory");
        config.url = "redis://redis".into();
        assert_eq!(told(&config, [0; 4]), ("localhost".into(), true));
        assert_eq!(told(&config, [10, 0, 0, 1]), ("10.0.0.1".into(), false));
        config.address = "orders".into();
        assert_eq!(told(&config, [0; 4]), ("orders".into(), false));
    }
}
