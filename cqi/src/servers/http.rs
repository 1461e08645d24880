//! The HTTP servers: one for everybody, one for operators.

use std::time::Duration;

use cqi_core::Result;
use cqi_http::{HttpOptions, HttpServer, try_routes};

use super::shutdown_grace;
use crate::Cqi;

/// The server for the service's own routes, if it has any, with the health probes.
pub(crate) fn public(cqi: &Cqi) -> Result<Option<HttpServer>> {
    let Some(routes) = cqi.routes.clone() else {
        return Ok(None);
    };
    let server = &cqi.config.server;
    let options = HttpOptions {
        host: server.host.clone(),
        port: server.port,
        header_timeout: server.header_timeout,
        request_timeout: server.write_timeout,
        body_timeout: server.read_timeout,
        write_timeout: server.write_timeout,
        shutdown_grace: shutdown_grace(cqi),
        max_body_bytes: server.max_body_bytes,
        max_header_bytes: server.max_header_bytes,
        max_headers: server.max_headers,
        max_connections: server.max_connections,
        ..HttpOptions::default()
    };
    let routes = try_routes(|| routes.merge(cqi_http::probe_router(&cqi.health)))?;
    Ok(Some(
        HttpServer::new("http", routes, options)?.observer(cqi.observer()),
    ))
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
        try_routes(|| cqi_http::admin_router(&cqi.health, &metrics.path, move || rendered.render()))?;
    let options = HttpOptions {
        // Nobody waits for a scrape.
        shutdown_grace: Duration::from_secs(1).min(cqi.config.server.shutdown_timeout / 20),
        ..HttpOptions::listen(&metrics.host, metrics.port)
    };
    Ok(Some(HttpServer::new("admin", routes, options)?))
}

#[cfg(not(feature = "telemetry"))]
pub(crate) fn admin(_: &Cqi) -> Result<Option<HttpServer>> {
    Ok(None)
}
