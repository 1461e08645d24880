//! What every request needs, in one layer: one look at the request, one at the response, no allocation between that can
//! be avoided.

mod body;
mod future;
mod host;
mod request_id;

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
use cqi_core::{Error, observe::Observer, trace::TraceContext};
use http::{Method, Request, Response, Uri};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{Span, field::Empty};

pub use self::request_id::RequestId;
use self::{
    body::BodyWatch,
    future::{Exchange, StackFuture},
    request_id::Generator,
};
use crate::{HttpOptions, error::HttpError};

/// The longest part of a path that goes into logs and spans.
const SHOWN_PATH: usize = 256;

/// A [`tower::Layer`] for [`axum::Router::layer`], which runs it after routing, so that the route is known, and also for
/// requests that no route fits. Apply it last, it is the outermost then.
///
/// [`Stack::standard`] is everything in one: request id, trace, metrics, access log, panic recovery, limits, error
/// bodies. The other constructors give one part each, for stacks in another order:
///
/// ```
/// # use std::sync::Arc;
/// # use axum::Router;
/// # use cqi_core::observe::{Observer, Silent};
/// # use cqi_http::{HttpOptions, Stack};
/// # let (observer, options): (Arc<dyn Observer>, _) = (Arc::new(Silent), HttpOptions::default());
/// // From the outside in: tracing, metrics, logging, panic recovery, router. The last added is the outermost.
/// let router: Router = Router::new()
///     .layer(Stack::recovery(Arc::clone(&observer)))
///     .layer(Stack::logging())
///     .layer(Stack::metrics(Arc::clone(&observer)))
///     // An authentication layer stands here: what it refuses is traced, but neither measured nor logged.
///     .layer(Stack::tracing(observer));
/// ```
#[derive(Debug, Clone)]
pub struct Stack(Arc<Parts>);

/// Marks a response of a probe or a scrape: such requests come every few seconds for ever, so their lines are of level
/// debug while they succeed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routine;

/// Which parts are on, and what they need.
#[derive(Debug)]
struct Parts {
    trace: bool,
    metrics: bool,
    log: bool,
    recover: bool,
    limits: Option<Limits>,
    observer: Arc<dyn Observer>,
    ids: Generator,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    request_timeout: Duration,
    body_timeout: Duration,
    max_body_bytes: usize,
}

impl Stack {
    /// Everything. Per request:
    ///
    /// - a request id: the `x-request-id` that came in if it is sane, else a new one; a [`RequestId`] extension for
    ///   handlers; echoed in the response;
    /// - a span `request` with `method`, `path`, `route`, `request_id` and at the end `status_code`, which continues the
    ///   trace of `traceparent` and `tracestate`;
    /// - one line at level debug at the start, one at level info at the end, with status and duration (LOG-9); of a
    ///   successful probe or scrape at debug too;
    /// - [`Observation::Served`](cqi_core::observe::Observation::Served), labelled with the route's template, never the
    ///   path;
    /// - a panic becomes status 500 with a fixed body, is counted, and logged without its text (ERR-11);
    /// - a `Host` that is missing, repeated or malformed is refused with 400, a body over the limit with 413, one that
    ///   does not arrive in time with 408; a handler that takes too long is dropped and answered with 504, so it has to
    ///   be safe to be cancelled at any `await`;
    /// - an error status without a body gets the standard one, 404 and 405 of the router included.
    pub fn standard(observer: Arc<dyn Observer>, options: &HttpOptions) -> Self {
        Self::of(Parts {
            trace: true,
            metrics: true,
            log: true,
            recover: true,
            limits: Some(Limits::of(options)),
            ..Parts::none(observer)
        })
    }

    /// Request id and span only.
    pub fn tracing(observer: Arc<dyn Observer>) -> Self {
        Self::of(Parts {
            trace: true,
            ..Parts::none(observer)
        })
    }

    /// Observations only.
    pub fn metrics(observer: Arc<dyn Observer>) -> Self {
        Self::of(Parts {
            metrics: true,
            ..Parts::none(observer)
        })
    }

    /// The access log only.
    pub fn logging() -> Self {
        Self::of(Parts {
            log: true,
            ..Parts::none(Arc::new(cqi_core::observe::Silent))
        })
    }

    /// Panic recovery only.
    pub fn recovery(observer: Arc<dyn Observer>) -> Self {
        Self::of(Parts {
            recover: true,
            ..Parts::none(observer)
        })
    }

    /// Host check, body limit, deadlines and standard error bodies only.
    pub fn limits(options: &HttpOptions) -> Self {
        Self::of(Parts {
            limits: Some(Limits::of(options)),
            ..Parts::none(Arc::new(cqi_core::observe::Silent))
        })
    }

    fn of(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Parts {
    fn none(observer: Arc<dyn Observer>) -> Self {
        Self {
            trace: false,
            metrics: false,
            log: false,
            recover: false,
            limits: None,
            observer,
            ids: Generator::new(),
        }
    }
}

impl Limits {
    fn of(options: &HttpOptions) -> Self {
        Self {
            request_timeout: options.request_timeout,
            body_timeout: options.body_timeout,
            max_body_bytes: options.max_body_bytes,
        }
    }
}

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
        let parts = &self.parts;
        let id = parts.trace.then(|| parts.ids.accept(&mut request));
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
            id,
            request_bytes: request.body().size_hint().exact().unwrap_or(0),
            body: None,
            span,
            parts: Arc::clone(parts),
            answered: false,
        };
        let inner = exchange.begin(request, |request| self.start(request));
        StackFuture::new(inner, exchange)
    }
}

impl<S> StackService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    fn start(&mut self, request: Request<Body>) -> Result<S::Future, HttpError> {
        if !self.parts.recover {
            return Ok(self.inner.call(request));
        }
        // A service that has panicked is not called again: axum makes a clone per request.
        catch_unwind(AssertUnwindSafe(|| self.inner.call(request))).map_err(|_| self.parts.panicked())
    }
}

impl Parts {
    /// Counts and logs a caught panic. Its text stays out: it may hold secrets. The place is known to the process's
    /// panic hook only, which runs inside the request's span.
    fn panicked(&self) -> HttpError {
        self.observer
            .observe(&cqi_core::observe::Observation::PanicRecovered { place: "http" });
        Error::panicked("the handler").into()
    }
}

impl Limits {
    /// Refuses what is wrong from the start, and puts limits on a body that is still to come.
    fn admit(&self, request: &mut Request<Body>) -> Result<Option<BodyWatch>, HttpError> {
        host::check(request)?;
        body::limit(request, self.max_body_bytes, self.body_timeout)
    }
}

/// The label of a route: its template, or `unmatched`.
fn label(route: &Option<MatchedPath>) -> &str {
    route.as_ref().map_or("unmatched", MatchedPath::as_str)
}

/// A method for logs and labels: clients may invent as many as they like.
fn method_label(method: &Method) -> &str {
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
fn shown_path(uri: &Uri) -> &str {
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
    // At the highest level, so that its fields are on every line below it, whatever the log level.
    let span = tracing::error_span!(
        "request",
        method = method_label(request.method()),
        path = shown_path(request.uri()),
        route = label(route),
        request_id = id.as_str(),
        status_code = Empty,
    );
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(parent) =
        header("traceparent").and_then(|parent| TraceContext::parse(parent, header("tracestate")))
    {
        observer.continue_trace(&span, parent);
    }
    span
}
