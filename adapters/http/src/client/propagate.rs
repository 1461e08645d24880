//! What a call takes along of the request that is being handled.

use cqi_core::{observe::Observer, request::Scope, secret::Secret};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use tokio::time::Instant;

use crate::{
    request_timeout::{REQUEST_TIMEOUT, timeout_header},
    stack::{REQUEST_ID, id_header},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Adds the headers of the attempt that is made now. Those that the call has itself stay.
pub(super) fn propagate(headers: &mut HeaderMap, observer: &dyn Observer, deadline: Instant, auth: bool) {
    let mut add = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.entry(name).or_insert(value);
        }
    };
    if let Some(trace) = observer.current_trace() {
        add(TRACEPARENT, HeaderValue::try_from(trace.traceparent()).ok());
        let state = trace.state.as_deref();
        add(
            TRACESTATE,
            state.and_then(|state| HeaderValue::try_from(state).ok()),
        );
    }
    let scope = Scope::current();
    add(REQUEST_ID, scope.id.as_ref().map(id_header));
    let left = deadline.saturating_duration_since(Instant::now());
    add(REQUEST_TIMEOUT, timeout_header(left));
    if auth {
        add(AUTHORIZATION, scope.credential.and_then(|secret| bearer(&secret)));
    }
}

/// A credential as a header that shows itself nowhere. `None` when it cannot be one.
pub(super) fn bearer(credential: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", credential.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
