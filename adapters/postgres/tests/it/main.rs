//! The adapter against a real server.

mod conformance;
mod support;
