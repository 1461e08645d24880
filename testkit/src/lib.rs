//! What tests of cqi services and cqi adapters are made of.
//!
//! - [`conformance`]: one suite per port. An adapter that passes keeps the port's promises.
//! - [`mocks`]: mockall mocks of the five ports.
//! - [`faulty`]: decorators of the five ports with a plan of faults and a log of operations.
//! - [`fixture`]: real servers for tests, which may be killed, paused and started again.
//! - [`proxy`]: a TCP proxy with faults, between a client and such a server.
//! - [`recorder`]: records observations, log events and spans, so that telemetry is tested like any output.
//! - [`figures`]: the line of figures that a fault test prints and writes down.
//! - [`liars`]: deliberately broken adapters, which the suites must catch by name.
//! - [`report`]: the table of what was proven for which adapter.
//! - [`contracts`]: protobuf events that stand in for the CQC contracts.
//! - [`eventually`]: waits for a condition instead of sleeping.
//!
//! It is a dev-dependency and never part of a service.

pub mod conformance;
pub mod contracts;
mod eventually;
pub mod faulty;
pub mod figures;
pub mod fixture;
pub mod liars;
pub mod mocks;
pub mod proxy;
pub mod recorder;
pub mod report;
mod unique;

pub use self::{eventually::eventually, unique::unique};

/// Compiles the examples of the document on testing.
#[cfg(doctest)]
#[doc = include_str!("../../docs/testing.md")]
struct Testing;
