//! Building routes without panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use axum::Router;
use cqi_core::{Error, Result};

/// Builds a router; what axum panics about becomes an error: a route registered twice, routes that overlap, a
/// malformed path (ML-HTTP-3). For routes that come from configuration or plugins.
///
/// # Errors
/// `InvalidInput` with axum's explanation.
///
/// ```
/// use axum::{Router, routing::get};
///
/// let twice = || Router::new().route("/a", get(|| async {})).route("/a", get(|| async {}));
/// assert!(cqi_http::try_routes(twice).unwrap_err().is_invalid_input());
/// ```
pub fn try_routes(build: impl FnOnce() -> Router) -> Result<Router> {
    // The half-built router is dropped with the panic, so nothing broken is seen afterwards.
    catch_unwind(AssertUnwindSafe(build)).map_err(|panic| {
        let why = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic
                .downcast::<&str>()
                .map_or_else(|_| "malformed".to_owned(), |text| (*text).to_owned()),
        };
        Error::invalid_input(format!("routes: {why}"))
    })
}
