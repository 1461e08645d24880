//! The suites on the in-memory defaults and through the faulty wrappers, the suites against liars, and the testkit's own
//! tools.
#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests stand outside `#[test]` functions

#[cfg(feature = "containers")]
mod container;
mod faulty;
mod fixture;
mod harness;
mod liars;
mod listed;
mod proxy;
mod recorder;
mod report;
mod suites;
mod tools;
