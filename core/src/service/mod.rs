//! From start to exit: services, the app that runs them, signals, and the drain.

mod app;
mod app_handle;
mod dependency;
mod drain;
mod handle;
mod hooks;
pub(crate) mod metadata;
#[allow(clippy::module_inception)] // the port is called Service, as the folder
mod service;
mod signal;
mod start;
mod task;
#[cfg(test)]
mod tests;

pub use self::{
    app::App,
    app_handle::{AppHandle, State},
    dependency::DependencyOptions,
    handle::{ServiceHandle, start_stop},
    metadata::ServiceMetadata,
    service::{Lifecycle, Service, service_fn},
    signal::{Signal, Signals},
};
