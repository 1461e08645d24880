//! The core of cqi: ports, policies, the consume loop, the lifecycle, and an in-memory default of every port.
//!
//! A service is written against five ports, [`event::EventBus`], [`cache::Cache`], [`database::Database`],
//! [`registry::Registry`] and [`health::Checker`], and never against a driver. This crate knows no broker, store,
//! web framework or exporter; adapters bring those. A port's folder holds the same files: `port.rs` (the trait and its
//! contract), `ext.rs` (typed convenience, where there is some), `guarded.rs` (the port under a policy), and the default
//! (`memory`, for the database `sqlite`).

pub mod auth;
pub mod cache;
pub mod config;
pub mod database;
pub mod error;
pub mod event;
pub mod health;
pub mod name;
pub mod observe;
pub mod peers;
pub mod policy;
pub mod prelude;
pub mod registry;
pub mod request;
pub mod secret;
pub mod service;
#[cfg(test)]
mod testing;
#[cfg(feature = "tls")]
pub mod tls;
pub mod trace;

pub use error::{Code, Error, Kind, Result};
/// A point in time, as events, rows and registrations carry it.
pub use jiff::Timestamp;
