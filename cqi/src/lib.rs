//! cqi: services built as ports and adapters.
//!
//! A service is written against ports (event bus, cache, database, registry) and handlers. This crate turns its
//! configuration into connected ports and a process that starts, serves, drains and exits in the documented order.
//!
//! ```no_run
//! use cqi::prelude::*;
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct OrderPlaced {
//!     #[prost(string, tag = "1")]
//!     id: String,
//! }
//! cqi::domain_event!(OrderPlaced = "order_placed", key = id);
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     cqi::run("service_name: orders", |cqi| async move {
//!         let place = async |State(bus): State<Arc<dyn EventBus>>, Path(id): Path<String>| -> HttpResult<_> {
//!             bus.emit(&OrderPlaced { id }).await?; // Ok: the bus has acknowledged the event
//!             Ok(StatusCode::ACCEPTED)
//!         };
//!         let placed = async |order: Received<OrderPlaced>| {
//!             tracing::info!(id = order.id, "order placed");
//!             Ok(())
//!         };
//!         let routes = Router::new().route("/orders/{id}", post(place)).with_state(cqi.bus());
//!         cqi.http(routes).subscriber(Events::new().on_event(placed))
//!     })
//!     .await
//! }
//! ```
//!
//! [`run`] loads the configuration, connects, and runs; [`Cqi`] is the same in steps. Everything of the core is
//! re-exported: [`event`], [`cache`], [`database`], [`registry`], [`health`], [`config`], [`policy`], [`service`].

mod app;
mod callers;
mod connect;
mod patience;
pub mod prelude;
#[cfg(any(feature = "http", feature = "grpc"))]
mod registration;
mod run;
#[cfg(any(feature = "http", feature = "grpc"))]
mod servers;
mod unused;
mod wiring;

pub use cqi_core::{
    Code, Error, Kind, Result, Timestamp, auth, cache, config, database, domain_event, error, event, health,
    name, observe, policy, registry, request, secret, service, trace,
};
#[cfg(feature = "grpc")]
pub use cqi_grpc as grpc;
#[cfg(feature = "http")]
pub use cqi_http as http;
#[cfg(feature = "jwt")]
pub use cqi_jwt as jwt;
#[cfg(feature = "kafka")]
pub use cqi_kafka as kafka;
#[cfg(feature = "nats")]
pub use cqi_nats as nats;
#[cfg(feature = "postgres")]
pub use cqi_postgres as postgres;
#[cfg(feature = "redis")]
pub use cqi_redis as redis;
#[cfg(feature = "telemetry")]
pub use cqi_telemetry as telemetry;
pub use tracing;

pub use self::{connect::Cqi, run::run};

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../../README.md")]
struct Readme;
