//! Calling other services.

mod balance;
mod config;
mod outgoing;
mod replay;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use cqi_core::{Error, Result, observe::Observation, request::Scope, secret::Secret};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION, request::Parts};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};
use tonic::{Code, Status, body::Body};
use tower::{Service, ServiceExt as _};
use tracing::{Instrument as _, field::Empty};

pub use self::config::{GrpcClientOptions, GrpcClientTls, Target};
pub(crate) use self::outgoing::unsent;
use self::{
    balance::Balance,
    outgoing::{Incoming, OPERATION, Outgoing, broken, nobody, too_late},
    replay::Replay,
};
use crate::{
    error::from_status,
    stack::{REQUEST_ID, id_header},
    wire,
};

/// A channel to a service, for the clients that tonic generates. Cheap to clone; clones share the connections.
///
/// Every call has a deadline, which is sent along, is traced, and carries the id of the request that is handled, over
/// gRPC or HTTP; calls that could not be sent are repeated.
///
/// ```no_run
/// use cqi_grpc::{GrpcChannel, GrpcClientOptions};
/// use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = GrpcChannel::connect(GrpcClientOptions::uri("http://localhost:9000")).await?;
/// let mut client = HealthClient::new(channel.repeatable());
/// client.check(HealthCheckRequest::default()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GrpcChannel {
    inner: Arc<Inner>,
    repeatable: bool,
}

struct Inner {
    balance: Balance,
    options: GrpcClientOptions,
    /// The configured credential as a header.
    credential: Option<HeaderValue>,
}

impl GrpcChannel {
    /// Makes a channel. Nothing is connected yet: the first call does that, and every call that finds the connection
    /// broken.
    ///
    /// # Errors
    /// `InvalidInput` for options out of range, a malformed address or credential, and certificate files that cannot be
    /// read or do not fit.
    pub async fn connect(options: GrpcClientOptions) -> Result<Self> {
        options.validate()?;
        let credential = options.credential.as_ref().map(|credential| {
            bearer(credential)
                .ok_or_else(|| Error::invalid_input("grpc client: the credential must be visible ASCII"))
        });
        let credential = credential.transpose()?;
        let files = options.clone();
        let tls = spawn_blocking(move || files.read_tls())
            .await
            .map_err(|error| Error::permanent("reading certificates").with_source(error))??;
        let balance = Balance::new(&options, tls)?;
        let inner = Inner {
            balance,
            options,
            credential,
        };
        Ok(Self {
            inner: Arc::new(inner),
            repeatable: false,
        })
    }

    /// The same channel for calls that may be made twice: they are also repeated when the server answers UNAVAILABLE, asks
    /// to come again (`RetryInfo`), or the connection breaks before it has answered.
    pub fn repeatable(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            repeatable: true,
        }
    }
}

impl fmt::Debug for GrpcChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcChannel")
            .field("target", &self.inner.options.target)
            .field("repeatable", &self.repeatable)
            .finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for GrpcChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = path.strip_prefix('/').unwrap_or(path);
        let span = tracing::error_span!("rpc_client", method, status_code = Empty);
        let inner = Arc::clone(&self.inner);
        let repeatable = self.repeatable;
        let record = Outgoing::begin(Arc::clone(&inner.options.observer), span.clone());
        Box::pin(async move { inner.call(request, repeatable, record).await }.instrument(span))
    }
}

/// How an attempt failed.
struct Failure {
    status: Status,
    /// What the server said, for whoever makes no other attempt.
    response: Option<Response<Body>>,
}

impl Inner {
    async fn call(
        &self,
        request: Request<Body>,
        repeatable: bool,
        mut record: Outgoing,
    ) -> Result<Response<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        let deadline = self.prepare(&mut parts.headers);
        let replay = Replay::new(body);
        loop {
            let failure = match self.attempt(&parts, &replay, deadline).await {
                Ok(response) => {
                    replay.close();
                    return Ok(receive(response, record, deadline));
                }
                Err(failure) => failure,
            };
            let worth = (repeatable || unsent(&failure.status)) && replay.is_kept();
            let pause = worth.then(|| self.pause(record.attempts, &failure.status, deadline));
            let Some(pause) = pause.flatten() else {
                replay.close();
                return match failure.response {
                    Some(response) => Ok(receive(response, record, deadline)),
                    None => {
                        record.end(failure.status.code());
                        Err(failure.status)
                    }
                };
            };
            sleep(pause).await;
            record.attempts += 1;
        }
    }

    /// Adds what every call carries; gives its deadline.
    fn prepare(&self, headers: &mut HeaderMap) -> Option<Instant> {
        let scope = Scope::current();
        let limit = wire::timeout(headers).unwrap_or(self.options.timeout);
        let own = Instant::now().checked_add(limit);
        let deadline = [own, scope.deadline()].into_iter().flatten().min();
        if !headers.contains_key(AUTHORIZATION) {
            let forwarded = scope.credential.filter(|_| self.options.forward_credential);
            let forwarded = forwarded.and_then(|credential| bearer(&credential));
            if let Some(credential) = forwarded.or_else(|| self.credential.clone()) {
                headers.insert(AUTHORIZATION, credential);
            }
        }
        if let Some(id) = scope.id
            && !headers.contains_key(REQUEST_ID)
        {
            headers.insert(REQUEST_ID, id_header(&id));
        }
        if let Some(trace) = self.options.observer.current_trace() {
            let state = trace.state.as_deref().map(HeaderValue::from_str);
            // Both are ASCII: they were checked when they came in.
            if let Ok(parent) = HeaderValue::try_from(trace.traceparent()) {
                headers.insert("traceparent", parent);
                headers.remove("tracestate");
            }
            if let Some(Ok(state)) = state {
                headers.insert("tracestate", state);
            }
        }
        deadline
    }

    async fn attempt(
        &self,
        parts: &Parts,
        replay: &Replay,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Failure> {
        let body = replay.body().unwrap_or_default();
        let mut request = Request::new(body);
        request.method_mut().clone_from(&parts.method);
        request.uri_mut().clone_from(&parts.uri);
        *request.version_mut() = parts.version;
        request.headers_mut().clone_from(&parts.headers);
        request.extensions_mut().clone_from(&parts.extensions);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if let Some(left) = left {
            request
                .headers_mut()
                .insert(wire::TIMEOUT, wire::timeout_value(left));
        }
        let calling = async {
            let channel = self.balance.pick().await.map_err(nobody)?;
            let answer = channel.oneshot(request).await;
            answer.map_err(|error| broken(Status::from_error(Box::new(error))))
        };
        let answered = match deadline {
            Some(deadline) => timeout_at(deadline, calling)
                .await
                .unwrap_or_else(|_| Err(too_late())),
            None => calling.await,
        };
        let failed = |status| Failure {
            status,
            response: None,
        };
        let response = answered.map_err(failed)?;
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => Err(Failure {
                status,
                response: Some(response),
            }),
            _ => Ok(response),
        }
    }

    /// The pause before the next attempt. `None` when there shall be none, or no time is left for it.
    fn pause(&self, attempt: u32, status: &Status, deadline: Option<Instant>) -> Option<Duration> {
        let error = from_status(status.clone());
        let again = status.code() == Code::Unavailable || error.retry_after().is_some();
        let delay = self.options.retry.next_delay(attempt, &error).filter(|_| again)?;
        if deadline.is_some_and(|deadline| Instant::now() + delay >= deadline) {
            return None;
        }
        tracing::warn!(attempt, delay_ms = delay.as_secs_f64() * 1e3, error = %error.chain(), "retrying");
        self.options.observer.observe(&Observation::Retrying {
            operation: OPERATION,
            attempt,
            delay,
            error: &error,
        });
        Some(delay)
    }
}

/// A credential as a header that shows itself nowhere. `None` when it cannot be one.
fn bearer(credential: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", credential.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Follows a response to its end.
fn receive(response: Response<Body>, mut record: Outgoing, deadline: Option<Instant>) -> Response<Body> {
    if let Some(code) = wire::code(response.headers()) {
        record.end(code);
    }
    response.map(|body| Body::new(Incoming::new(body, record, deadline)))
}
