//! The gRPC server over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not recognise as such

mod auth;
mod balance;
mod calls;
mod channel;
mod drain;
mod echo;
mod health;
mod hostile;
mod limits;
mod raw;
mod support;
mod tls;
mod trace;
