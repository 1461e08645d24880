//! The HTTP server over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not recognise as such

mod auth;
mod client;
mod drain;
mod hostile;
mod hostile_h2;
mod idempotency;
mod layers;
mod probes;
mod stack;
mod support;
mod tls;
mod upgrade;
