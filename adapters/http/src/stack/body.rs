//! Limits on a request's body: its size, and the time until it is there.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    extract::DefaultBodyLimit,
};
use cqi_core::{Code, Error};
use http::{Request, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::HttpError;

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

/// Tells whether a limit of the body was the reason for a failure, whatever the handler made of it.
#[derive(Debug, Clone)]
pub(super) struct BodyWatch(Arc<AtomicU8>);

impl BodyWatch {
    pub(super) fn fault(&self) -> Option<HttpError> {
        match self.0.load(Relaxed) {
            TOO_LARGE => Some(too_large()),
            TOO_SLOW => {
                let error = Error::invalid_input("the body did not arrive in time").with_code(Code::Timeout);
                Some(HttpError::from(error).with_status(StatusCode::REQUEST_TIMEOUT))
            }
            _ => None,
        }
    }
}

fn too_large() -> HttpError {
    Error::invalid_input("body is too large")
        .with_code(Code::TooLarge)
        .into()
}

/// Refuses a body announced as too large, and wraps one that is still to come. `None` when there is no body.
pub(super) fn limit(
    request: &mut Request<Body>,
    max_bytes: usize,
    timeout: Duration,
) -> Result<Option<BodyWatch>, HttpError> {
    if request.body().is_end_stream() {
        return Ok(None);
    }
    if request.body().size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    // This limit holds for every way to read the body, so axum's own, for its extractors only, is switched off.
    DefaultBodyLimit::disable().apply(request);
    let fault = Arc::new(AtomicU8::new(0));
    let inner = std::mem::take(request.body_mut());
    *request.body_mut() = Body::new(Limited {
        inner,
        remaining: max_bytes,
        timer: Err(timeout),
        fault: Arc::clone(&fault),
    });
    Ok(Some(BodyWatch(fault)))
}

struct Limited {
    inner: Body,
    remaining: usize,
    /// Made when the body first has to be waited for.
    timer: Result<Pin<Box<Sleep>>, Duration>,
    fault: Arc<AtomicU8>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(remaining) = self.remaining.checked_sub(length) else {
                    self.fault.store(TOO_LARGE, Relaxed);
                    return Poll::Ready(Some(Err("the body is too large".into())));
                };
                self.remaining = remaining;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|result| result.map_err(Into::into))),
            Poll::Pending => {
                if let Err(timeout) = self.timer {
                    self.timer = Ok(Box::pin(tokio::time::sleep(timeout)));
                }
                if let Ok(timer) = &mut self.timer
                    && timer.as_mut().poll(context).is_ready()
                {
                    self.fault.store(TOO_SLOW, Relaxed);
                    return Poll::Ready(Some(Err("the body did not arrive in time".into())));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
