//! A request at its authentication.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::response::{IntoResponse, Response};

use crate::HttpError;

type Verifying = Pin<Box<dyn Future<Output = Result<Response, HttpError>> + Send>>;

/// The future of an [`AuthLayer`](super::AuthLayer). Dropping it drops verifier and handler.
#[allow(unnameable_types)] // named by Service::Future only
pub struct AuthFuture<F>(State<F>);

enum State<F> {
    Open(F),
    Verifying(Verifying),
    Refused(Option<HttpError>),
}

impl<F> AuthFuture<F> {
    pub(super) fn open(handled: F) -> Self {
        Self(State::Open(handled))
    }

    pub(super) fn verifying(
        handled: impl Future<Output = Result<Response, HttpError>> + Send + 'static,
    ) -> Self {
        Self(State::Verifying(Box::pin(handled)))
    }

    pub(super) fn refused(error: HttpError) -> Self {
        Self(State::Refused(Some(error)))
    }
}

impl<F> fmt::Debug for AuthFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFuture").finish_non_exhaustive()
    }
}

impl<F> Future for AuthFuture<F>
where
    F: Future<Output = Result<Response, Infallible>> + Unpin,
{
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = match &mut self.0 {
            State::Open(handled) => return Pin::new(handled).poll(context),
            State::Verifying(handled) => match handled.as_mut().poll(context) {
                Poll::Ready(answered) => answered,
                Poll::Pending => return Poll::Pending,
            },
            State::Refused(refused) => match refused.take() {
                Some(error) => Err(error),
                // Polled after the end, which no caller may do.
                None => return Poll::Pending,
            },
        };
        Poll::Ready(Ok(answered.unwrap_or_else(IntoResponse::into_response)))
    }
}
