//! The body of a response: what goes on after the handler has returned.

use std::{
    future::Future as _,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use cqi_core::{
    auth::{AuthContext, in_auth_context},
    request::Scope,
};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::{Code, Status, body::Body};

use super::{Call, Messages, too_late};
use crate::{server::Active, wire};

type Next = Option<Result<Frame<Bytes>, Status>>;

/// A response's body. It watches over its messages, ends in time, turns a panic of the handler's stream into a status,
/// and tells of the end of the call.
pub(crate) struct CallBody {
    /// `None` once it has ended.
    inner: Option<Body>,
    call: Call,
    messages: Messages,
    scope: Scope,
    caller: Option<Arc<AuthContext>>,
    /// Made when a stream with a deadline first has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
    _active: Active,
}

impl CallBody {
    pub(super) fn new(
        body: Body,
        mut call: Call,
        messages: Messages,
        scope: Scope,
        caller: Option<Arc<AuthContext>>,
        active: Active,
    ) -> Self {
        let inner = (!body.is_end_stream()).then_some(body);
        if inner.is_none() {
            // Its code was in the head; a service of tonic's leaves it out nowhere.
            call.end(Code::Unknown);
        }
        Self {
            inner,
            call,
            messages,
            scope,
            caller,
            timer: None,
            _active: active,
        }
    }

    /// Asks the handler's stream, inside of the span and with the identity of the call.
    fn ask(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let _entered = self.call.span.enter();
        let poll = || self.scope.step(|| Pin::new(inner).poll_frame(context));
        match &self.caller {
            Some(caller) => in_auth_context(caller, poll),
            None => poll(),
        }
    }

    fn overdue(&mut self, context: &mut Context<'_>) -> bool {
        let Some(deadline) = self.scope.deadline() else {
            return false;
        };
        self.timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)))
            .as_mut()
            .poll(context)
            .is_ready()
    }

    /// Ends the response with `status` instead of what the handler would have sent.
    fn cut(&mut self, status: &Status) -> Next {
        let mut trailers = HeaderMap::new();
        // Metadata of a handler that is no valid header is left out.
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, (status.code() as i32).into());
        }
        self.last(trailers)
    }

    fn last(&mut self, mut trailers: HeaderMap) -> Next {
        wire::clip_message(&mut trailers);
        self.inner = None;
        self.call.end(wire::code(&trailers).unwrap_or(Code::Unknown));
        Some(Ok(Frame::trailers(trailers)))
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Next {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.last(frame.into_trailers().unwrap_or_default()),
        };
        match self.messages.pass(&data) {
            Ok(()) => {
                self.call.response_bytes += data.len() as u64;
                Some(Ok(Frame::data(data)))
            }
            Err(status) => {
                tracing::error!(parent: &self.call.span, "response {}", status.message());
                self.cut(&status)
            }
        }
    }
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Next> {
        let this = &mut *self;
        // What panicked is dropped unused, so nothing broken is seen afterwards.
        let next = match catch_unwind(AssertUnwindSafe(|| this.ask(context))) {
            Ok(Poll::Ready(Some(Ok(frame)))) => this.pass(frame),
            Ok(Poll::Ready(Some(Err(status)))) => this.cut(&status),
            Ok(Poll::Ready(None)) => {
                // Without trailers: no service of tonic's does that.
                this.inner = None;
                this.call.end(Code::Unknown);
                None
            }
            Ok(Poll::Pending) if this.overdue(context) => this.cut(&too_late()),
            Ok(Poll::Pending) => return Poll::Pending,
            Err(_panic) => {
                let status = this.call.span.in_scope(|| this.call.stack.panicked());
                this.cut(&status)
            }
        };
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(_) => SizeHint::new(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for CallBody {
    /// What the handler's stream does when it is dropped belongs to the call, too, and may panic as well.
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            let _entered = self.call.span.enter();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(inner)));
        }
    }
}
