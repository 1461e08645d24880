//! Tokens made on the spot, accepted and refused (ML-AUTH-11).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // helpers of tests fail the test and print seeds

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
