//! The service of a [`Stack`], and how it shows requests.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::MatchedPath,
};
use cqi_core::{
    Error,
    observe::{Observation, Observer},
    request::{RequestId, Scope},
    trace::TraceContext,
};
use http::{Method, Request, Response, Uri};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{Span, field::Empty};

use super::{
    Parts, Stack,
    future::{Exchange, StackFuture},
    request_id::accept,
};
use crate::error::HttpError;

/// The longest part of a path that goes into logs and spans.
const SHOWN_PATH: usize = 256;

impl<S> Layer<S> for Stack {
    type Service = StackService<S>;

    fn layer(&self, inner: S) -> StackService<S> {
        StackService {
            parts: Arc::clone(&self.0),
            inner,
        }
    }
}

/// The service of a [`Stack`].
#[allow(unnameable_types)] // named by Layer::Service only
#[derive(Debug, Clone)]
pub struct StackService<S> {
    parts: Arc<Parts>,
    inner: S,
}

impl<S> Service<Request<Body>> for StackService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = StackFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Self { parts, inner } = self;
        let id = parts.trace.then(|| accept(&parts.ids, request.headers()));
        let (id, echo) = id.unzip();
        if let Some(id) = &id {
            request.extensions_mut().insert(id.clone());
        }
        let route = (parts.trace || parts.metrics)
            .then(|| request.extensions().get::<MatchedPath>().cloned())
            .flatten();
        let span = match &id {
            Some(id) => request_span(&request, &route, id, &*parts.observer),
            None => Span::none(),
        };
        let mut exchange = Exchange {
            started: Instant::now(),
            method: request.method().clone(),
            uri: (parts.log && !parts.trace).then(|| request.uri().clone()),
            route,
            echo,
            request_bytes: request.body().size_hint().exact().unwrap_or(0),
            body: None,
            origin: None,
            counted: false,
            timeout: Duration::ZERO,
            impatient: false,
            scope: parts.scope(id),
            span: Span::none(),
            parts: Arc::clone(parts),
            answered: false,
        };
        let start = |request| start(parts, inner, request);
        let begun = span.in_scope(|| exchange.begin(parts, request, start));
        exchange.span = span;
        StackFuture::new(begun, exchange)
    }
}

fn start<S>(parts: &Parts, inner: &mut S, request: Request<Body>) -> Result<S::Future, HttpError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    if !parts.recover {
        return Ok(inner.call(request));
    }
    // A service that has panicked is not called again: axum makes a clone per request.
    catch_unwind(AssertUnwindSafe(|| inner.call(request))).map_err(|_| parts.panicked())
}

impl Parts {
    /// What the handler may ask of its request, where this layer knows something of it.
    fn scope(&self, id: Option<RequestId>) -> Option<Scope> {
        (self.trace || self.limits.is_some()).then(|| {
            // Of a layer around this one.
            let outer = Scope::current();
            match id {
                Some(id) => outer.with_id(id),
                None => outer,
            }
        })
    }

    /// Counts and logs a caught panic. Its text stays out: it may hold secrets. The place is known to the process's
    /// panic hook only, which runs inside the request's span.
    pub(super) fn panicked(&self) -> HttpError {
        self.observer
            .observe(&Observation::PanicRecovered { place: "http" });
        Error::panicked("the handler").into()
    }
}

/// The label of a route: its template, or `unmatched`.
pub(super) fn label(route: &Option<MatchedPath>) -> &str {
    route.as_ref().map_or("unmatched", MatchedPath::as_str)
}

/// A method for logs and labels: clients may invent as many as they like.
pub(super) fn method_label(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::PATCH
        | Method::HEAD
        | Method::OPTIONS
        | Method::CONNECT
        | Method::TRACE => method.as_str(),
        _ => "OTHER",
    }
}

/// The path without its query, which may hold secrets, and of bounded length. A URI's path is ASCII or valid UTF-8.
pub(super) fn shown_path(uri: &Uri) -> &str {
    let path = uri.path();
    let mut end = path.len().min(SHOWN_PATH);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    &path[..end]
}

fn request_span(
    request: &Request<Body>,
    route: &Option<MatchedPath>,
    id: &RequestId,
    observer: &dyn Observer,
) -> Span {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let parent = header("traceparent").and_then(|parent| TraceContext::parse(parent, header("tracestate")));
    // At the highest level, so that its fields are on every line below it, whatever the log level.
    observer.continue_trace(parent, &mut || {
        tracing::error_span!(
            "request",
            method = method_label(request.method()),
            path = shown_path(request.uri()),
            route = label(route),
            request_id = id.as_str(),
            status_code = Empty,
        )
    })
}
