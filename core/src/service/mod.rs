//! From start to exit: services, the app that runs them, signals, and the drain.

#[allow(clippy::module_inception)]
mod service;

pub use self::service::{Lifecycle, Service, service_fn};
