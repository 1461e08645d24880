//! Tokens made on the spot, accepted and refused (ML-AUTH-11).

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests may fail the test

mod accepted;
mod algorithms;
mod issuer;
mod published;
mod refused_claims;
mod refused_headers;
mod token;
