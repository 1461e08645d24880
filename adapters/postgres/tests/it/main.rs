//! The adapter against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests fail as tests do

mod cancellation;
mod conformance;
mod encryption;
mod environment;
mod faults;
mod hurry;
mod limits;
mod links;
mod login;
mod migrations;
mod pooler;
mod sessions;
mod statements;
mod support;
mod values;
