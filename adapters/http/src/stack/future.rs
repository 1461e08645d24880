//! A request under way in a [`Stack`](super::Stack).

use std::{
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::MatchedPath,
    response::IntoResponse,
};
use cqi_core::{Error, observe::Observation, request::Scope};
use http::{HeaderValue, Method, Request, Response, Uri, header::ORIGIN};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::Span;

use super::{
    Parts, Routine,
    body::BodyWatch,
    limits::Limits,
    request_id::REQUEST_ID,
    service::{label, method_label, shown_path},
};
use crate::error::{HttpError, of_status};

/// The future of a [`Stack`](super::Stack). Dropping it drops the handler; it is counted as a client gone away.
#[allow(unnameable_types, missing_debug_implementations)] // named by Service::Future only
pub struct StackFuture<F> {
    inner: Inner<F>,
    /// Made when the handler first has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
    exchange: Exchange,
}

pub(super) enum Inner<F> {
    Running(F),
    /// Without the handler.
    Answered(Response<Body>),
    Done,
}

/// What is known about a request and its response.
pub(super) struct Exchange {
    pub(super) started: Instant,
    pub(super) method: Method,
    /// Only where the access log has no span to take the path from.
    pub(super) uri: Option<Uri>,
    pub(super) route: Option<MatchedPath>,
    /// The id, for the answer.
    pub(super) echo: Option<HeaderValue>,
    pub(super) request_bytes: u64,
    pub(super) body: Option<BodyWatch>,
    pub(super) origin: Option<HeaderValue>,
    /// Whether it counts among the requests in flight.
    pub(super) counted: bool,
    /// The time for an answer, where there are limits.
    pub(super) timeout: Duration,
    /// Whether that is the caller's, shorter than the server's.
    pub(super) impatient: bool,
    pub(super) scope: Option<Scope>,
    pub(super) span: Span,
    pub(super) parts: Arc<Parts>,
    pub(super) answered: bool,
}

impl<F> StackFuture<F> {
    pub(super) fn new(inner: Inner<F>, exchange: Exchange) -> Self {
        Self {
            inner,
            timer: None,
            exchange,
        }
    }
}

impl<F> Future for StackFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let entered = this.exchange.span.enter();
        let response = match std::mem::replace(&mut this.inner, Inner::Done) {
            Inner::Answered(response) => response,
            Inner::Running(mut running) => match advance(&mut running, &this.exchange, context) {
                Poll::Ready(response) => response,
                Poll::Pending if overdue(&mut this.timer, &this.exchange, context) => {
                    drop(running);
                    this.exchange.timed_out()
                }
                Poll::Pending => {
                    this.inner = Inner::Running(running);
                    return Poll::Pending;
                }
            },
            // Polled after the end, which no caller may do.
            Inner::Done => return Poll::Pending,
        };
        drop(entered);
        Poll::Ready(Ok(this.exchange.answer(response)))
    }
}

/// Polls the handler; its panic becomes a response.
fn advance<F>(running: &mut F, exchange: &Exchange, context: &mut Context<'_>) -> Poll<Response<Body>>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    let mut poll = || exchange.during(|| Pin::new(&mut *running).poll(context));
    let polled = if exchange.parts.recover {
        // What panicked is dropped unused, so nothing broken is seen afterwards.
        catch_unwind(AssertUnwindSafe(&mut poll))
            .unwrap_or_else(|_| Poll::Ready(Ok(exchange.parts.panicked().into_response())))
    } else {
        poll()
    };
    polled.map(|Ok(response)| response)
}

fn overdue(timer: &mut Option<Pin<Box<Sleep>>>, exchange: &Exchange, context: &mut Context<'_>) -> bool {
    if exchange.parts.limits.is_none() {
        return false;
    }
    timer
        .get_or_insert_with(|| Box::pin(sleep_until(exchange.started + exchange.timeout)))
        .as_mut()
        .poll(context)
        .is_ready()
}

impl Exchange {
    /// The path is shown by the span where there is one.
    fn path(&self) -> Option<&str> {
        self.uri.as_ref().map(shown_path)
    }

    /// Runs a step of the handler, which may ask what is known of its request.
    fn during<T>(&self, step: impl FnOnce() -> T) -> T {
        match &self.scope {
            Some(scope) => scope.step(step),
            None => step(),
        }
    }

    /// Logs the start, checks the request and hands it to `start`. Called inside the span.
    pub(super) fn begin<F>(
        &mut self,
        parts: &Parts,
        mut request: Request<Body>,
        start: impl FnOnce(Request<Body>) -> Result<F, HttpError>,
    ) -> Inner<F> {
        if parts.log {
            tracing::debug!(
                method = self.path().map(|_| method_label(&self.method)),
                path = self.path(),
                "request started"
            );
        }
        if parts.cors.is_some() {
            self.origin = request.headers().get(ORIGIN).cloned();
        }
        if let Some(limits) = &parts.limits
            && let Err(refusal) = self.admit(limits, &mut request)
        {
            return Inner::Answered(refusal);
        }
        if let Some(cors) = &parts.cors
            && let Some(answer) = cors.preflight(&request)
        {
            return Inner::Answered(answer);
        }
        match self.during(|| start(request)) {
            Ok(running) => Inner::Running(running),
            Err(error) => Inner::Answered(error.into_response()),
        }
    }

    /// Refusals are a debug line: clients and load cause them, as often as they like.
    #[allow(clippy::result_large_err)] // made once, and what the caller gives back
    fn admit(&mut self, limits: &Limits, request: &mut Request<Body>) -> Result<(), Response<Body>> {
        let before = limits.enter();
        self.counted = true;
        self.body = limits.admit(request, before).map_err(|error| {
            tracing::debug!(error = %error.error().chain(), "request refused");
            limits.refusal(&error)
        })?;
        (self.timeout, self.impatient) = limits.timeout(request);
        if self.timeout.is_zero() {
            return Err(self.timed_out());
        }
        let deadline = self.started + self.timeout;
        self.scope = self.scope.take().map(|scope| scope.until(Some(deadline)));
        Ok(())
    }

    /// The time is over. An error of the service's only if the time was its own.
    fn timed_out(&self) -> Response<Body> {
        let error = HttpError::from(Error::timeout(self.timeout));
        if self.impatient {
            tracing::debug!(timeout = ?self.timeout, "the caller's time is over");
            return error.response();
        }
        error.into_response()
    }

    /// Completes a response and tells about it.
    fn answer(&mut self, mut response: Response<Body>) -> Response<Body> {
        self.answered = true;
        if self.parts.limits.is_some() {
            response = self.with_standard_body(response);
        }
        if let Some(id) = self.echo.take() {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        if let Some(cors) = &self.parts.cors {
            cors.complete(self.origin.as_ref(), response.headers_mut());
        }
        if let Some(fixed) = &self.parts.headers {
            fixed.complete(response.headers_mut());
        }
        let status = response.status();
        let elapsed = self.started.elapsed();
        if self.parts.metrics {
            let bytes = response.body().size_hint().exact().unwrap_or(0);
            self.served(status.as_str(), elapsed, bytes);
        }
        if self.parts.log {
            let _entered = self.span.enter();
            let (method, path) = (self.path().map(|_| method_label(&self.method)), self.path());
            let (status_code, duration_ms) = (status.as_u16(), elapsed.as_secs_f64() * 1e3);
            if status.is_success() && response.extensions().get::<Routine>().is_some() {
                tracing::debug!(method, path, status = status_code, duration_ms, "request");
            } else {
                tracing::info!(method, path, status = status_code, duration_ms, "request");
            }
        }
        // After the line, which has the status already.
        self.span.record("status_code", status.as_u16());
        response
    }

    /// A limit of the body that was hit decides what the client hears; an error without a body gets the standard one.
    fn with_standard_body(&self, response: Response<Body>) -> Response<Body> {
        let status = response.status();
        if !(status.is_client_error() || status.is_server_error()) {
            return response;
        }
        if let Some(fault) = self.body.as_ref().and_then(BodyWatch::fault) {
            return fault.into_response();
        }
        if response.body().size_hint().exact() != Some(0) {
            return response;
        }
        let (mut parts, _) = response.into_parts();
        let (standard, body) = of_status(status).into_parts();
        parts.headers.remove(http::header::CONTENT_LENGTH);
        parts.headers.extend(standard.headers);
        Response::from_parts(parts, body)
    }

    fn served(&self, status: &str, elapsed: Duration, response_bytes: u64) {
        self.parts.observer.observe(&Observation::Served {
            protocol: "http",
            method: method_label(&self.method),
            route: label(&self.route),
            status,
            elapsed,
            request_bytes: self.request_bytes,
            response_bytes,
        });
    }
}

impl Drop for Exchange {
    /// A request that was dropped without an answer: its client is gone, or the drain cut it (H-19). Status 499 is what
    /// proxies call that.
    fn drop(&mut self) {
        if self.counted
            && let Some(limits) = &self.parts.limits
        {
            limits.leave();
        }
        if self.answered {
            return;
        }
        if self.parts.metrics {
            self.served("499", self.started.elapsed(), 0);
        }
        if self.parts.log {
            let _entered = self.span.enter();
            tracing::debug!("request was dropped before its answer");
        }
    }
}
