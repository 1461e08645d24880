//! The full example as an operator, a load balancer and clients in another language see it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not recognise as such

mod agree;
mod clients;
mod collector;
mod metrics;
mod shutdown;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)] // other test programs use the rest of it
mod support;

use serde_json::Value;

/// A key that the example accepts in these tests.
const KEY: &str = "3f1b0c2e9a7d4865";
/// How it is configured.
const KEYS: (&str, &str) = ("CQI_AUTH_API_KEYS", "billing:3f1b0c2e9a7d4865");

/// What Python's client is to call.
fn call(method: &str, request: &Value, token: &str) -> String {
    serde_json::json!({"call": method, "request": request, "token": token}).to_string() + "\n"
}

/// Whether Python has what these tests need; if not, that is said and counted.
fn has_clients() -> bool {
    let there = support::has_python("grpc, grpc_health, grpc_reflection, jwt, cryptography");
    if !there {
        cqi_testkit::fixture::skip("Python lacks gRPC or JWT: run scripts/servers, which installs them");
    }
    there
}

/// The same request with a credential.
fn with_token(request: &str, token: &str) -> String {
    request.replacen("\r\n", &format!("\r\nauthorization: Bearer {token}\r\n"), 1)
}
