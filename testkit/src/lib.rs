//! What tests of cqi services and cqi adapters are made of.
//!
//! - [`conformance`]: one suite per port. An adapter that passes keeps the port's promises.
//! - [`eventually`]: waits for a condition instead of sleeping.
//!
//! It is a dev-dependency and never part of a service.

pub mod conformance;
mod eventually;
mod unique;

pub use self::{eventually::eventually, unique::unique};
