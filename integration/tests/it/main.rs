//! What crosses crates and processes: the quickstart as the process an operator runs, and the facade as a library.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not recognise as such

mod configuration;
mod dead_letter;
mod descriptors;
mod errors;
mod example;
mod footprint;
mod lifecycle;
mod load;
mod one_thread;
mod shutdown;
mod shutdown_clients;
mod startup;
#[allow(dead_code, unused_imports)] // other test programs use the rest of it
mod support;
mod telemetry;
