//! A request's body that can be sent again.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};

/// How much is kept. What has been read beyond that cannot be sent again.
const MAX_KEPT: usize = 256 << 10;

/// A body, and what was read of it by the attempts so far. The bytes are shared, not copied.
#[derive(Debug, Clone)]
pub(super) struct Replay(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    body: Body,
    parts: Vec<Bytes>,
    bytes: usize,
    /// Nothing more is kept: too much, or no other attempt will be made.
    closed: bool,
    /// The attempt that reads now.
    attempt: u32,
}

impl Replay {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            body,
            parts: Vec::new(),
            bytes: 0,
            closed: false,
            attempt: 0,
        })))
    }

    /// The body for the next attempt, from its beginning; the one of the attempt before ends. `None` when too much of it
    /// is gone.
    pub(super) fn body(&self) -> Option<Body> {
        let mut kept = self.lock();
        if kept.closed {
            return None;
        }
        kept.attempt += 1;
        let attempt = Attempt {
            replay: self.clone(),
            attempt: kept.attempt,
            next: 0,
        };
        let empty = kept.parts.is_empty() && kept.body.is_end_stream();
        drop(kept);
        Some(if empty { Body::empty() } else { Body::new(attempt) })
    }

    /// Whether there can be another attempt.
    pub(super) fn is_kept(&self) -> bool {
        !self.lock().closed
    }

    /// The attempt under way is the last.
    pub(super) fn close(&self) {
        let mut kept = self.lock();
        kept.closed = true;
        if kept.attempt == 1 {
            // It has read all of them.
            kept.parts = Vec::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Attempt {
    replay: Replay,
    attempt: u32,
    /// The part to be sent next.
    next: usize,
}

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut kept = this.replay.lock();
        if kept.attempt != this.attempt {
            return Poll::Ready(Some(Err(Status::cancelled("another attempt is made"))));
        }
        if let Some(part) = kept.parts.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(part.clone()))));
        }
        let polled = Pin::new(&mut kept.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            kept.keep(frame.data_ref());
            this.next = kept.parts.len();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.replay.lock();
        kept.attempt != self.attempt || (self.next >= kept.parts.len() && kept.body.is_end_stream())
    }
}

impl Kept {
    fn keep(&mut self, data: Option<&Bytes>) {
        let Some(data) = data.filter(|_| !self.closed) else {
            return;
        };
        self.bytes += data.len();
        if self.bytes > MAX_KEPT {
            self.closed = true;
        } else {
            self.parts.push(data.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn replay(parts: &[&'static [u8]]) -> Replay {
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, Status>(Frame::data(Bytes::from_static(part))))
            .collect();
        Replay::new(Body::new(StreamBody::new(futures::stream::iter(frames))))
    }

    #[tokio::test]
    async fn a_body_is_sent_again_from_its_beginning() {
        let replay = replay(&[b"one", b"two", b"three"]);
        let mut first = replay.body().unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        let second = replay.body().unwrap();
        assert_eq!(
            first.frame().await.unwrap().unwrap_err().code(),
            tonic::Code::Cancelled
        );
        assert_eq!(second.collect().await.unwrap().to_bytes(), "onetwothree");
        assert_eq!(
            replay.body().unwrap().collect().await.unwrap().to_bytes(),
            "onetwothree"
        );
    }

    #[tokio::test]
    async fn what_is_too_much_to_be_kept_is_sent_once() {
        static BIG: [u8; MAX_KEPT] = [7; MAX_KEPT];
        let replay = replay(&[&BIG, b"more", b"end"]);
        let all = replay.body().unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(all.len(), MAX_KEPT + 7);
        assert!(replay.body().is_none());
    }
}
