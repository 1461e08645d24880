//! Checks before single routes.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use cqi_core::{
    Result,
    auth::{AuthContext, Requirement, refused},
};
use http::{Extensions, Request};
use tower::{Layer, Service};

use super::{RateLimit, rate::Limiter};
use crate::HttpError;

/// A layer that looks at a request and lets it pass or refuses it. For [`axum::Router::route_layer`] and
/// [`axum::routing::MethodRouter::layer`].
#[derive(Clone)]
pub struct Check(Arc<Looks>);

type Looks = dyn Fn(&Extensions) -> Result<()> + Send + Sync;

/// Demands permissions or roles of the caller (P-AUTH-2): 403 without, 401 when no layer has authenticated anybody.
///
/// ```
/// use axum::{Router, routing::delete};
/// use cqi_core::auth::Requirement;
/// use cqi_http::require;
///
/// let admin: Router = Router::new()
///     .route("/positions/{id}", delete(|| async {}))
///     .route_layer(require(Requirement::role("admin")));
/// ```
pub fn require(requirement: Requirement) -> Check {
    Check(Arc::new(move |extensions| {
        let caller = extensions.get::<Arc<AuthContext>>().ok_or_else(refused)?;
        requirement.check(caller)
    }))
}

/// Limits the rate of each client on the routes below, together and apart from any other limit.
///
/// # Errors
/// `InvalidInput` naming the rule that the limit breaks.
pub fn limit_rate(limit: RateLimit) -> Result<Check> {
    let limiter = Limiter::new(limit)?;
    Ok(Check(Arc::new(move |extensions| limiter.take(extensions))))
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for Check {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked {
            check: self.clone(),
            inner,
        }
    }
}

/// The service of a [`Check`].
#[allow(unnameable_types)] // named by Layer::Service only
#[derive(Debug, Clone)]
pub struct Checked<S> {
    check: Check,
    inner: S,
}

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = Infallible;
    type Future = CheckFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match (self.check.0)(request.extensions()) {
            Ok(()) => CheckFuture(Ok(self.inner.call(request))),
            Err(error) => CheckFuture(Err(Some(error.into()))),
        }
    }
}

/// The future of a [`Check`].
#[allow(unnameable_types)] // named by Service::Future only
#[derive(Debug)]
pub struct CheckFuture<F>(std::result::Result<F, Option<HttpError>>);

impl<F> Future for CheckFuture<F>
where
    F: Future<Output = Result<Response, Infallible>> + Unpin,
{
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(running) => Pin::new(running).poll(context),
            Err(refused) => match refused.take() {
                Some(error) => Poll::Ready(Ok(error.into_response())),
                // Polled after the end, which no caller may do.
                None => Poll::Pending,
            },
        }
    }
}
