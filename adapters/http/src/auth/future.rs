//! A request at its authentication, and then at its handler.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    mem,
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
    auth::{AuthContext, in_auth_context},
    request::Scope,
    secret::Secret,
};
use http::Request;
use tower::Service;

use crate::HttpError;

/// The caller, and the credential if there was one. All that is in a box, so that this one is small.
type Verified = Pin<Box<dyn Future<Output = Result<(Arc<AuthContext>, Option<Secret>)>> + Send>>;

/// The future of an [`AuthLayer`](super::AuthLayer). Dropping it drops verifier and handler.
#[allow(unnameable_types)] // named by Service::Future only
pub struct AuthFuture<S: Service<Request<Body>>>(State<S>);

enum State<S: Service<Request<Body>>> {
    Open(S::Future),
    Verifying(Verified, S, Request<Body>),
    Handling(Handling<S::Future>),
    Refused(HttpError),
    Done,
}

/// A handler that knows its caller, also where it is dropped.
struct Handling<F> {
    handler: Option<F>,
    caller: Arc<AuthContext>,
    /// With the credential, for calls that the handler makes.
    scope: Option<Scope>,
}

impl<S: Service<Request<Body>>> AuthFuture<S> {
    pub(super) fn open(handler: S::Future) -> Self {
        Self(State::Open(handler))
    }

    /// Has `inner` handle `request` once the caller is known.
    pub(super) fn verifying(
        verified: impl Future<Output = Result<(Arc<AuthContext>, Option<Secret>)>> + Send + 'static,
        inner: S,
        request: Request<Body>,
    ) -> Self {
        Self(State::Verifying(Box::pin(verified), inner, request))
    }

    pub(super) fn refused(error: HttpError) -> Self {
        Self(State::Refused(error))
    }
}

// Nothing in it is pinned but what is in a box.
impl<S: Service<Request<Body>>> Unpin for AuthFuture<S> where S::Future: Unpin {}

impl<S: Service<Request<Body>>> fmt::Debug for AuthFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFuture").finish_non_exhaustive()
    }
}

impl<S> Future for AuthFuture<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Unpin,
{
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Verifying(verified, ..) = &mut self.0 {
            let Poll::Ready(verified) = verified.as_mut().poll(context) else {
                return Poll::Pending;
            };
            let State::Verifying(_, inner, request) = mem::replace(&mut self.0, State::Done) else {
                return Poll::Pending;
            };
            self.0 = match verified {
                Ok((caller, credential)) => {
                    State::Handling(Handling::start(inner, request, caller, credential))
                }
                Err(error) => State::Refused(error.into()),
            };
        }
        match &mut self.0 {
            State::Open(handler) => Pin::new(handler).poll(context),
            State::Handling(handling) => handling
                .step(|handler| handler.map_or(Poll::Pending, |handler| Pin::new(handler).poll(context))),
            _ => match mem::replace(&mut self.0, State::Done) {
                State::Refused(error) => Poll::Ready(Ok(error.into_response())),
                // Polled after the end, which no caller may do.
                _ => Poll::Pending,
            },
        }
    }
}

impl<F> Handling<F> {
    fn start<S: Service<Request<Body>, Future = F>>(
        mut inner: S,
        mut request: Request<Body>,
        caller: Arc<AuthContext>,
        credential: Option<Secret>,
    ) -> Self {
        request.extensions_mut().insert(Arc::clone(&caller));
        let scope = credential.map(|credential| Scope::current().with_credential(Arc::new(credential)));
        let mut handling = Self {
            handler: None,
            caller,
            scope,
        };
        handling.handler = Some(handling.step(|_| inner.call(request)));
        handling
    }

    /// Runs a step of the handler where its caller is known.
    fn step<T>(&mut self, step: impl FnOnce(Option<&mut F>) -> T) -> T {
        let handler = self.handler.as_mut();
        let step = || in_auth_context(&self.caller, || step(handler));
        match &self.scope {
            Some(scope) => scope.step(step),
            None => step(),
        }
    }
}

impl<F> Drop for Handling<F> {
    fn drop(&mut self) {
        if let Some(handler) = self.handler.take() {
            self.step(|_| drop(handler));
        }
    }
}
