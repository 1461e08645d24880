//! The probes and the metrics, as routes.

use std::sync::Arc;

use axum::{
    Extension, Router,
    response::{IntoResponse, Response},
    routing::get,
};
use cqi_core::health::{Health, Report};
use http::{HeaderValue, StatusCode, header};

use crate::{Json, stack::Routine};

/// Where the probes are.
pub(crate) const PATHS: [&str; 4] = ["/health", "/health/live", "/health/ready", "/health/startup"];

/// The probes of a container runtime or a load balancer: `/health/live`, `/health/ready`, `/health/startup` (HLT-4, 5,
/// ML-HLT-4), and `/health`, which is the same as `/health/ready`. Each answers 200 or 503, and with `{"status":
/// "healthy"}` or `{"status": "unhealthy"}` only: what is wrong with what is not for the public (H-23).
pub fn probe_router(health: &Health) -> Router {
    let bare: fn(Report) -> Report = |mut report| {
        report.checks.clear();
        report
    };
    let ready = health.clone();
    let route = get(move || async move { answer(&bare(ready.ready().await)) });
    probes(health, bare).route("/health", route)
}

/// What operators look at, for a listener that the public does not reach (H-23): the probes with their checks (HLT-7),
/// `/health` with every check in detail (ML-HLT-2), and at `metrics_path` what `render` gives, in the text format of Prometheus.
///
/// `render` must not block.
///
/// # Panics
/// When `metrics_path` does not begin with `/` or is one of the probes' paths; [`try_routes`](crate::try_routes) makes
/// an error of that.
pub fn admin_router(
    health: &Health,
    metrics_path: &str,
    render: impl Fn() -> String + Send + Sync + 'static,
) -> Router {
    let all = health.clone();
    let render = Arc::new(render);
    let metrics = move || {
        let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        let text = render();
        async move { ([(header::CONTENT_TYPE, content_type)], Extension(Routine), text) }
    };
    probes(health, |report| report)
        .route("/health", get(|| async move { answer(&all.report().await) }))
        .route(metrics_path, get(metrics))
}

/// The three probes, each report as `shown`.
fn probes(health: &Health, shown: fn(Report) -> Report) -> Router {
    let (live, ready, startup) = (health.clone(), health.clone(), health.clone());
    Router::new()
        .route(
            "/health/live",
            get(move || async move { answer(&shown(live.live())) }),
        )
        .route(
            "/health/ready",
            get(move || async move { answer(&shown(ready.ready().await)) }),
        )
        .route(
            "/health/startup",
            get(move || async move { answer(&shown(startup.startup().await)) }),
        )
}

fn answer(report: &Report) -> Response {
    let status = StatusCode::from_u16(report.http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = (status, Json(report)).into_response();
    response.extensions_mut().insert(Routine);
    // A cached answer would be a wrong one.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
