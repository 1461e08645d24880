//! The adapter against real servers: both suites, the traps of the client, and faults.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests may fail the test

mod cache;
mod checker;
mod cluster;
mod faults;
mod kit;
mod network;
mod refusals;
mod registry;
mod registry_faults;
mod tls;
