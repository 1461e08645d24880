//! Tokens made on the spot, accepted and refused (ML-AUTH-11).

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests may fail the test

mod accepted;
mod algorithms;
mod fuzz;
mod fuzz_targets;
mod issuer;
#[path = "../../../../core/tests/fuzz/mutator.rs"]
mod mutator;
mod published;
mod refused_claims;
mod refused_headers;
mod tls;
mod token;
