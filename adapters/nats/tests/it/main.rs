//! The bus on a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // tests

mod checker;
mod conformance;
mod connect;
mod consume;
mod faults;
mod publish;
mod slow;
mod support;
