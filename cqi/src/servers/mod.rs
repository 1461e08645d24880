//! From configuration to servers.

#[cfg(feature = "grpc")]
pub(crate) mod grpc;
#[cfg(feature = "http")]
pub(crate) mod http;

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Result,
    config::ServerConfig,
    health::{CheckOptions, Checker},
    tls::TlsOptions,
};

use crate::{Cqi, connect::drain_time};

/// The share of a shutdown's time for requests in flight.
const REQUESTS: f64 = 0.5;

/// How long one server's requests in flight have to finish in a shutdown. Servers stop one after the other, so they share
/// the time.
fn shutdown_grace(cqi: &Cqi) -> Duration {
    let servers = if cfg!(all(feature = "http", feature = "grpc")) {
        2.0
    } else {
        1.0
    };
    drain_time(&cqi.config).mul_f64(REQUESTS / servers)
}

/// Certificate, key and who vouches for clients; `None` without TLS.
fn tls(server: &ServerConfig) -> Option<TlsOptions> {
    if server.tls_certificate.is_empty() {
        return None;
    }
    let mut tls = TlsOptions::new(&server.tls_certificate, &server.tls_key);
    tls.reload_interval = server.tls_reload_interval;
    if !server.tls_client_ca.is_empty() {
        tls.client_ca = Some(server.tls_client_ca.as_str().into());
        tls.require_client = server.tls_require_client;
    }
    Some(tls)
}

/// Shows operators when a server's files of TLS cannot be used. It goes on with the older ones, so it stays in service.
fn show_tls(cqi: &Cqi, checker: Option<impl Checker>) -> Result<()> {
    let shown = CheckOptions {
        required: false,
        ready: false,
        ..CheckOptions::default()
    };
    match checker {
        Some(checker) => cqi.health.register(Arc::new(checker), shown),
        None => Ok(()),
    }
}

/// Whether callers must prove who they are: by a credential, or by a certificate where clients' ones are known.
fn closed(cqi: &Cqi) -> bool {
    cqi.verifier.is_some() || !cqi.config.server.tls_client_ca.is_empty()
}

#[cfg(test)]
mod tests {
    use cqi_core::config::Config;

    use super::*;
    use crate::connect::{SUBSCRIBERS, WORK_OFF};

    /// Whoever uses all of its share takes nothing from those whose turn is later.
    #[tokio::test]
    async fn the_shares_of_a_shutdown_fit_into_what_the_delay_leaves() {
        let mut config = Config {
            service_name: "shop".into(),
            ..Config::default()
        };
        config.server.shutdown_timeout = Duration::from_secs(30);
        config.server.shutdown_delay = Duration::from_secs(20);
        let rest = drain_time(&config).mul_f64(WORK_OFF + SUBSCRIBERS);
        let delay = config.server.shutdown_delay;
        let cqi = Cqi::connect(config).await.unwrap();
        let used = delay + shutdown_grace(&cqi) + rest;
        assert!(used < cqi.config.server.shutdown_timeout, "{used:?}");
    }
}
