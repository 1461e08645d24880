//! The HTTP servers: one for everybody, one for operators.

use std::sync::Arc;

use cqi_core::{Result, auth::AnyOf, config::Config};
use cqi_http::{AuthOptions, CorsOptions, HttpOptions, HttpServer, Network, RateLimit, try_routes};

use super::{closed, show_tls, shutdown_grace, tls};
use crate::Cqi;

/// The server for the service's own routes, if it has any, with the health probes.
pub(crate) fn public(cqi: &Cqi) -> Result<Option<HttpServer>> {
    let Some(routes) = cqi.routes.clone() else {
        return Ok(None);
    };
    let options = HttpOptions {
        shutdown_grace: shutdown_grace(cqi),
        ..options(&cqi.config)?
    };
    let routes = try_routes(|| routes.merge(cqi_http::probe_router(&cqi.health)))?;
    let server = HttpServer::new("http", routes, options)?.observer(cqi.observer());
    show_tls(cqi, server.tls_checker())?;
    if !closed(cqi) {
        return Ok(Some(server));
    }
    // With nothing that verifies credentials, certificates alone count.
    let verifier = cqi.verifier().unwrap_or_else(|| Arc::new(AnyOf::new()));
    server.auth(verifier).map(Some)
}

/// Checks what only the server knows the rules of, without taking a port.
pub(crate) fn check(config: &Config) -> Result<()> {
    HttpServer::new("http", axum::Router::new(), options(config)?).map(drop)
}

fn options(config: &Config) -> Result<HttpOptions> {
    let server = &config.server;
    let mut auth = AuthOptions {
        client_certificates: !server.tls_client_ca.is_empty(),
        ..AuthOptions::default()
    };
    auth.open_paths.extend(config.auth.open_paths.iter().cloned());
    let proxies = server.trusted_proxies.iter().map(|proxy| {
        proxy
            .parse::<Network>()
            .map_err(|error| error.with_context("server.trusted_proxies", proxy))
    });
    let cors = CorsOptions {
        origins: server.cors_origins.clone(),
        ..CorsOptions::default()
    };
    Ok(HttpOptions {
        host: server.host.clone(),
        port: server.port,
        tls: tls(server),
        handshake_timeout: server.header_timeout,
        trusted_proxies: proxies.collect::<Result<_>>()?,
        header_timeout: server.header_timeout,
        request_timeout: server.write_timeout,
        body_timeout: server.read_timeout,
        write_timeout: server.write_timeout,
        max_body_bytes: server.max_body_bytes,
        max_header_bytes: server.max_header_bytes,
        max_headers: server.max_headers,
        max_in_flight: server.max_in_flight,
        rate_limit: (server.rate_limit > 0).then(|| RateLimit::per_second(server.rate_limit)),
        cors: (!cors.origins.is_empty()).then_some(cors),
        compression: server.compression,
        auth,
        max_connections: server.max_connections,
        ..HttpOptions::default()
    })
}

/// The server for operators: metrics and health in detail.
#[cfg(feature = "telemetry")]
pub(crate) fn admin(cqi: &Cqi) -> Result<Option<HttpServer>> {
    let metrics = &cqi.config.metrics;
    if !metrics.enabled {
        return Ok(None);
    }
    let rendered = cqi.telemetry.metrics().clone();
    let routes =
        try_routes(|| cqi_http::admin_router(&cqi.health, &metrics.path, move || rendered.scrape()))?;
    let options = HttpOptions {
        // Nobody waits for a scrape.
        shutdown_grace: std::time::Duration::from_secs(1).min(crate::connect::drain_time(&cqi.config) / 20),
        ..HttpOptions::listen(&metrics.host, metrics.port)
    };
    Ok(Some(HttpServer::new("admin", routes, options)?))
}

#[cfg(not(feature = "telemetry"))]
pub(crate) fn admin(_: &Cqi) -> Result<Option<HttpServer>> {
    Ok(None)
}
