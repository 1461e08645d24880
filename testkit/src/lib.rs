//! What tests of cqi services and cqi adapters are made of.
//!
//! - [`conformance`]: one suite per port. An adapter that passes keeps the port's promises.
//! - [`mocks`]: mockall mocks of the five ports.
//! - [`faulty`]: decorators of the five ports with a plan of faults and a log of operations.
//! - [`eventually`]: waits for a condition instead of sleeping.
//!
//! It is a dev-dependency and never part of a service.

pub mod conformance;
mod eventually;
pub mod faulty;
pub mod mocks;
mod unique;

pub use self::{eventually::eventually, unique::unique};
