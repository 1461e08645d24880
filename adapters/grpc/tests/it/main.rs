//! The gRPC server over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not recognise as such

mod auth;
mod calls;
mod channel;
mod drain;
mod echo;
mod health;
mod hostile;
mod raw;
mod support;
mod tls;
mod trace;
