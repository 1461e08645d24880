//! What every call needs, in one layer: one look at the request, one at the response's head, one at its end, no
//! allocation between that can be avoided. From the outside in: request id, trace, log, metrics, deadline, panic
//! recovery, message limits, authentication, requirements, handler.

mod auth;
mod body;
mod call;
mod messages;
mod request_id;
mod services;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
};

use cqi_core::{
    auth::{AuthContext, with_auth_context},
    error::Error,
    observe::{Observation, Observer},
    request::{RequestId, RequestIds, Scope},
    trace::TraceContext,
};
use futures::FutureExt as _;
use http::{Method as HttpMethod, Request, Response, header};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status, body::Body, transport::server::TcpConnectInfo};
use tracing::{Instrument as _, Span, field::Empty};

pub(crate) use self::request_id::{REQUEST_ID, header as id_header};
pub(crate) use self::services::{Names, Services};
pub use self::{auth::GrpcAuth, services::GrpcService};
use self::{
    auth::{Admitted, Auth},
    body::CallBody,
    call::Call,
    messages::{Limited, Messages},
    services::Method,
};
use crate::{GrpcOptions, error::to_status, server::Active, wire};

/// The longest part of a path that goes into logs and spans.
const SHOWN_PATH: usize = 256;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
    /// From its certificate.
    pub(crate) identity: Option<Arc<AuthContext>>,
}

/// The layer and the services below it.
#[derive(Debug)]
pub(crate) struct Stack {
    services: Services,
    auth: Auth,
    observer: Arc<dyn Observer>,
    ids: RequestIds,
    request_timeout: std::time::Duration,
    max_request_bytes: usize,
    max_response_bytes: usize,
}

/// What a handler answered, and under which circumstances its stream goes on.
struct Answer {
    response: Response<Body>,
    scope: Scope,
    caller: Option<Arc<AuthContext>>,
}

impl Stack {
    pub(crate) fn new(
        services: Services,
        auth: Option<GrpcAuth>,
        observer: Arc<dyn Observer>,
        options: &GrpcOptions,
    ) -> Self {
        Self {
            services,
            auth: Auth::new(auth),
            observer,
            ids: RequestIds::new(),
            request_timeout: options.request_timeout,
            max_request_bytes: options.max_request_bytes,
            max_response_bytes: options.max_response_bytes,
        }
    }

    /// Answers one call. Dropping the future is what happens when the client cancels.
    pub(crate) fn call(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        request: Request<Incoming>,
        active: Active,
    ) -> impl Future<Output = Result<Response<CallBody>, Infallible>> + Send + use<> {
        let id = request_id::accept(&self.ids, request.headers());
        let method = self.services.find(request.uri().path());
        let span = rpc_span(&request, &id.0, &*self.observer);
        let call = Call::begin(Arc::clone(self), method, id, span.clone());
        let peer = Arc::clone(peer);
        async move { Ok(call.serve(request, &peer, active).await) }.instrument(span)
    }

    /// Counts and logs a caught panic. Its text stays out: it may hold secrets. The place is known to the process's
    /// panic hook only, which runs inside the call's span.
    fn panicked(&self) -> Status {
        self.observer
            .observe(&Observation::PanicRecovered { place: "grpc" });
        tracing::error!("the handler panicked");
        to_status(&Error::panicked("the handler"))
    }
}

impl Call {
    async fn serve(mut self, request: Request<Incoming>, peer: &Peer, active: Active) -> Response<CallBody> {
        // A time that is too long for the clock is no deadline.
        let deadline = wire::timeout(request.headers()).and_then(|limit| self.started.checked_add(limit));
        let limit = self.started + self.stack.request_timeout;
        let limit = deadline.map_or(limit, |deadline| deadline.min(limit));
        let stack = Arc::clone(&self.stack);
        let answering = AssertUnwindSafe(self.answer(request, peer, deadline, limit)).catch_unwind();
        let answer = match timeout_at(limit, answering).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => {
                if self.handling {
                    self.exists();
                }
                Err(stack.panicked())
            }
            Err(_elapsed) => Err(too_late()),
        };
        let (answer, scope, caller) = match answer {
            Ok(answer) => {
                if wire::code(answer.response.headers()) != Some(Code::Unimplemented) {
                    self.exists();
                }
                (answer.response, answer.scope, answer.caller)
            }
            Err(status) => (status.into_http(), Scope::default(), None),
        };
        let (mut head, body) = answer.into_parts();
        if let Some(id) = self.echo.take() {
            head.headers.insert(REQUEST_ID, id);
        }
        wire::clip_message(&mut head.headers);
        if let Some(code) = wire::code(&head.headers) {
            self.end(code);
        }
        let messages = Messages::new(self.stack.max_response_bytes);
        Response::from_parts(head, CallBody::new(body, self, messages, scope, caller, active))
    }

    async fn answer(
        &mut self,
        request: Request<Incoming>,
        peer: &Peer,
        deadline: Option<Instant>,
        limit: Instant,
    ) -> Result<Answer, Status> {
        check_protocol(&request)?;
        if limit <= Instant::now() {
            return Err(too_late());
        }
        let auth = &self.stack.auth;
        let admitted = auth.admit(self.method.as_deref(), request.headers(), peer).await;
        let Admitted { caller, credential } = admitted.map_err(|error| {
            tracing::debug!(error = %error.chain(), "call refused");
            to_status(&error)
        })?;
        let method = self.method.clone();
        let method = method.ok_or_else(|| Status::unimplemented("no such service"))?;
        let mut request = request.map(|body| Body::new(Limited::new(body, self.stack.max_request_bytes)));
        let extensions = request.extensions_mut();
        extensions.insert(TcpConnectInfo {
            local_addr: peer.local,
            remote_addr: Some(peer.remote),
        });
        extensions.insert(self.id.clone());
        if let Some(caller) = &caller {
            extensions.insert(Arc::clone(caller));
        }
        let mut scope = Scope::default().until(Some(limit)).with_id(self.id.clone());
        scope.credential = credential.map(Arc::new);
        let running = scope.clone().run(self.handle(&method, request));
        let Ok(response) = match &caller {
            Some(caller) => with_auth_context(Arc::clone(caller), running).await,
            None => running.await,
        };
        Ok(Answer {
            response,
            scope: scope.until(deadline),
            caller,
        })
    }

    async fn handle(
        &mut self,
        method: &Method,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        self.handling = true;
        let mut handling = method.call(request);
        // What tonic answers for a method that is not there is ready at once.
        poll_fn(|context| {
            let polled = handling.as_mut().poll(context);
            if polled.is_pending() {
                self.exists();
            }
            polled
        })
        .await
    }
}

fn too_late() -> Status {
    Status::deadline_exceeded("the call took too long")
}

/// Turns away what is no gRPC.
fn check_protocol<B>(request: &Request<B>) -> Result<(), Status> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if request.method() == HttpMethod::POST && is_grpc {
        return Ok(());
    }
    Err(Status::invalid_argument(
        "this is a gRPC server: POST application/grpc",
    ))
}

/// A path for logs, of bounded length. A URI's path is ASCII or valid UTF-8.
fn shown_path(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut end = path.len().min(SHOWN_PATH);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    &path[..end]
}

fn rpc_span<B>(request: &Request<B>, id: &RequestId, observer: &dyn Observer) -> Span {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let parent = header("traceparent").and_then(|parent| TraceContext::parse(parent, header("tracestate")));
    // At the highest level, so that its fields are on every line below it, whatever the log level.
    observer.continue_trace(parent, &mut || {
        tracing::error_span!(
            "rpc",
            method = shown_path(request.uri().path()),
            request_id = id.as_str(),
            status_code = Empty,
        )
    })
}
