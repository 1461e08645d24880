//! The record of a call that is made, from its start to the end of its response.

use std::{
    error::Error as StdError,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use cqi_core::{
    Error,
    observe::{Observation, Observer},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, ConnectError, Status, TimeoutExpired, body::Body};
use tracing::Span;

use crate::{error::from_status, wire};

/// Calls, as they are told to the observer.
pub(super) const OPERATION: &str = "grpc.call";

/// What is known about a call. Dropping it before its end means that the caller gave it up.
pub(super) struct Outgoing {
    observer: Arc<dyn Observer>,
    pub(super) span: Span,
    started: Instant,
    pub(super) attempts: u32,
    ended: bool,
}

impl Outgoing {
    pub(super) fn begin(observer: Arc<dyn Observer>, span: Span) -> Self {
        Self {
            observer,
            span,
            started: Instant::now(),
            attempts: 1,
            ended: false,
        }
    }

    /// Tells about the end of the call; only the first counts.
    pub(super) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let error = (code != Code::Ok).then(|| from_status(Status::new(code, code.description())));
        self.observer.observe(&Observation::Called {
            operation: OPERATION,
            elapsed: self.started.elapsed(),
            attempts: self.attempts,
            error: error.as_ref(),
        });
        self.span.record("status_code", wire::name(code));
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// The body of a response, until the call's deadline.
pub(super) struct Incoming {
    inner: Body,
    call: Outgoing,
    deadline: Option<Instant>,
    /// Made when the response first has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(inner: Body, call: Outgoing, deadline: Option<Instant>) -> Self {
        Self {
            inner,
            call,
            deadline,
            timer: None,
        }
    }

    fn overdue(&mut self, context: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        self.timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)))
            .as_mut()
            .poll(context)
            .is_ready()
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let next = match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Pending if this.overdue(context) => Some(Err(too_late())),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Err(status))) => Some(Err(broken(status))),
            Poll::Ready(next) => next,
        };
        match &next {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.end(wire::code(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(status)) => this.call.end(status.code()),
            None => this.call.end(Code::Unknown),
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pub(super) fn too_late() -> Status {
    Status::deadline_exceeded("no answer in time")
}

/// A failure of the transport, as gRPC names it: what tonic does not recognise is a connection that broke.
pub(super) fn broken(status: Status) -> Status {
    if has_cause(&status, |cause| cause.is::<TimeoutExpired>()) {
        return too_late();
    }
    match status.code() {
        Code::Unknown | Code::Cancelled => unavailable("the connection was lost", status),
        _ => status,
    }
}

/// There was nobody to call.
pub(super) fn nobody(error: Error) -> Status {
    let message = error.message().to_owned();
    unavailable(&message, ConnectError(error.into()))
}

fn unavailable(message: &str, cause: impl StdError + Send + Sync + 'static) -> Status {
    let mut status = Status::unavailable(message);
    status.set_source(Arc::new(cause));
    status
}

/// Whether a call failed before anything of it was sent: there was no connection.
pub(crate) fn unsent(status: &Status) -> bool {
    has_cause(status, |cause| {
        cause.is::<ConnectError>() || cause.downcast_ref().is_some_and(hyper::Error::is_canceled)
    })
}

fn has_cause(status: &Status, is: impl Fn(&(dyn StdError + 'static)) -> bool) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        if is(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}
