//! The HTTP server over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not recognise as such

mod drain;
mod hostile;
mod probes;
mod stack;
mod support;
