//! gRPC for cqi services, on tonic and hyper: a server with limits and a drain, one fast layer for what every call
//! needs, errors with rich details, the health and reflection services, and a client channel.
//!
//! ```no_run
//! use cqi_core::{health::Health, service::{App, ServiceMetadata}};
//! use cqi_grpc::{GrpcOptions, GrpcServer};
//!
//! # async fn run() -> cqi_core::Result<()> {
//! let health = Health::new();
//! // Services that tonic generates are added with `.add(PositionsServer::new(positions))?`.
//! let server = GrpcServer::new("grpc", GrpcOptions::default())?.health(&health)?;
//! App::new(ServiceMetadata::new("positions", "1.0.0"))?.service(server).run().await
//! # }
//! ```

mod client;
mod config;
mod error;
mod fields;
mod health;
mod reflection;
mod server;
mod stack;
mod wire;

pub use cqi_core::request::{RequestId, remaining_time};

pub use self::{
    client::{GrpcChannel, GrpcClientOptions, GrpcClientTls, Target},
    config::GrpcOptions,
    error::{GrpcError, Result, from_status, to_status},
    fields::{known, required},
    server::{Bound, GrpcServer},
    stack::{GrpcAuth, GrpcService},
};

/// Compiles the examples of the document.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/grpc.md")]
struct Document;
