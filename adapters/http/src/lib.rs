//! HTTP for cqi services, on axum and hyper: a server with TLS, limits and a drain; one fast layer for what every request
//! needs; authentication; extractors and errors with one JSON body; the probes; and a client for other services.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use axum::{Router, routing::{get, put}};
//! use cqi_core::{
//!     auth::{ApiKeys, Requirement},
//!     health::Health,
//!     service::{App, ServiceMetadata},
//! };
//! use cqi_http::{Caller, HttpOptions, HttpServer, Json, RateLimit, Result, probe_router, require};
//!
//! async fn greet(caller: Caller) -> Result<Json<String>> {
//!     Ok(Json(format!("hello {}", caller.service_id.as_deref().unwrap_or("you"))))
//! }
//!
//! # async fn run() -> cqi_core::Result<()> {
//! let health = Health::new();
//! let routes = Router::new()
//!     .route("/greeting", put(|| async { "changed" }))
//!     .route_layer(require(Requirement::role("admin")))
//!     .route("/greet", get(greet))
//!     .merge(probe_router(&health));
//! let options = HttpOptions { rate_limit: Some(RateLimit::per_second(100)), ..HttpOptions::default() };
//! let keys = ApiKeys::parse(["billing:3f1b0c2e9a7d4865".into()])?;
//! let server = HttpServer::new("api", routes, options)?.auth(Arc::new(keys))?;
//! App::new(ServiceMetadata::new("greeter", "1.0.0"))?.service(server).run().await
//! # }
//! ```
//!
//! From the outside in, a request meets: request id and span, access log and metrics, load shedding, rate limit, checks
//! and limits, CORS, panic recovery, authentication, compression, the router with the layers of its routes. On the way
//! back every answer gets its request id, CORS and security headers. The defaults are in [`HttpOptions`].

mod auth;
mod client;
mod client_ip;
mod config;
mod error;
mod extract;
mod layers;
mod probes;
mod request_timeout;
mod routes;
mod server;
mod stack;

pub use cqi_core::request::{RequestId, remaining_time};

pub use self::{
    auth::{AuthLayer, AuthOptions, Caller},
    client::{ClientRequest, ClientResponse, HttpClient, HttpClientOptions},
    client_ip::{ClientIp, ClientIpHeader, Network},
    config::HttpOptions,
    error::{HttpError, Result},
    extract::{Json, Path, Query},
    layers::{
        Check, CorsOptions, Idempotency, IdempotencyOptions, RateLimit, SecurityHeaders, limit_rate, require,
    },
    probes::{admin_router, probe_router},
    routes::try_routes,
    server::{Bound, HttpServer},
    stack::Stack,
};
