//! The record of a call, from its metadata to the end of its response.

use std::sync::Arc;

use cqi_core::{observe::Observation, request::RequestId};
use http::HeaderValue;
use tokio::time::Instant;
use tonic::Code;
use tracing::Span;

use super::{Method, Stack};
use crate::wire;

/// The label of what does not exist, or was never seen to.
const UNMATCHED: &str = "unmatched";

/// What is known about a call. Dropping it before its end means that the client is gone, or that the drain cut it.
pub(super) struct Call {
    pub(super) stack: Arc<Stack>,
    pub(super) method: Option<Arc<Method>>,
    pub(super) id: RequestId,
    /// The id, for the answer.
    pub(super) echo: Option<HeaderValue>,
    pub(super) span: Span,
    pub(super) started: Instant,
    pub(super) response_bytes: u64,
    /// Whether the handler was called.
    pub(super) handling: bool,
    exists: bool,
    ended: bool,
}

impl Call {
    pub(super) fn begin(
        stack: Arc<Stack>,
        method: Option<Arc<Method>>,
        (id, echo): (RequestId, HeaderValue),
        span: Span,
    ) -> Self {
        span.in_scope(|| tracing::debug!("call started"));
        Self {
            exists: method.as_ref().is_some_and(|method| method.known),
            stack,
            method,
            id,
            echo: Some(echo),
            span,
            started: Instant::now(),
            response_bytes: 0,
            handling: false,
            ended: false,
        }
    }

    /// The method is there.
    pub(super) fn exists(&mut self) {
        if let Some(method) = self.method.as_ref().filter(|_| !self.exists) {
            self.stack.services.learn(method);
            self.exists = true;
        }
    }

    /// Tells about the end of the call; only the first counts.
    pub(super) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let status = wire::name(code);
        let elapsed = self.started.elapsed();
        let method = self.method.as_ref();
        let label = method
            .filter(|_| self.exists)
            .map_or(UNMATCHED, |method| &method.name);
        self.stack.observer.observe(&Observation::Served {
            protocol: "grpc",
            method: label,
            route: label,
            status,
            elapsed,
            request_bytes: 0,
            response_bytes: self.response_bytes,
        });
        let _entered = self.span.enter();
        let duration_ms = elapsed.as_secs_f64() * 1e3;
        if code == Code::Ok && method.is_some_and(|method| method.entry.routine) {
            tracing::debug!(status, duration_ms, "call");
        } else {
            tracing::info!(status, duration_ms, "call");
        }
        // After the line, which has the status already.
        self.span.record("status_code", status);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}
