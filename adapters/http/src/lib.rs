//! HTTP for cqi services, on axum and hyper: a server with limits and a drain, one fast layer for what every request
//! needs, extractors and errors with one JSON body, and the probes.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use cqi_core::service::{App, ServiceMetadata};
//! use cqi_http::{HttpOptions, HttpServer, Json, Result};
//!
//! async fn greet() -> Result<Json<&'static str>> {
//!     Ok(Json("hello"))
//! }
//!
//! # async fn run() -> cqi_core::Result<()> {
//! let server = HttpServer::new("api", Router::new().route("/greet", get(greet)), HttpOptions::default())?;
//! App::new(ServiceMetadata::new("greeter", "1.0.0"))?.service(server).run().await
//! # }
//! ```

mod auth;
mod client;
mod client_ip;
mod config;
mod current;
mod error;
mod extract;
mod layers;
mod probes;
mod routes;
mod server;
mod stack;

pub use self::{
    auth::{AuthLayer, AuthOptions, Caller},
    client::{ClientRequest, ClientResponse, HttpClient, HttpClientOptions},
    client_ip::{ClientIp, ClientIpHeader, Network},
    config::HttpOptions,
    current::remaining_time,
    error::{HttpError, Result},
    extract::{Json, Path, Query},
    layers::{Check, CorsOptions, RateLimit, SecurityHeaders, limit_rate, require},
    probes::{admin_router, probe_router},
    routes::try_routes,
    server::{Bound, HttpServer},
    stack::{RequestId, Stack},
};
