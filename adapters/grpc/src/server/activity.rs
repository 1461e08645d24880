//! What a connection is doing, and how long it may go on doing so.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::GrpcOptions;

/// The length of what every HTTP/2 connection begins with.
const PREFACE: usize = 24;

/// How long a connection without a call lives on after its client was told that it ends, for a call already on its way.
const LINGER: Duration = Duration::from_millis(500);

/// Kept by the stream and the calls of one connection, asked by its task. The values are independent of each other and
/// only compared with the clock, so relaxed atomics do. A moment is in milliseconds after `begun`, plus one; zero is
/// "not now".
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    /// Bytes of the preface that have arrived.
    preface: AtomicUsize,
    /// Calls whose response has not been handed to the connection in full.
    active: AtomicUsize,
    idle: AtomicU64,
    write_blocked: AtomicU64,
    closing: AtomicU64,
    /// When the client last said anything while the connection ended.
    heard: AtomicU64,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It takes no further calls: it has had no call for too long, or it is too old.
    Close,
    /// It is cut off, for this reason.
    Cut(&'static str),
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            preface: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            idle: AtomicU64::new(0),
            write_blocked: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).map_or(u64::MAX, |now| now.saturating_add(1))
    }

    fn moment(&self, stored: &AtomicU64) -> Option<Instant> {
        let stored = stored.load(Relaxed);
        (stored > 0).then(|| self.begun + Duration::from_millis(stored - 1))
    }

    /// The client is told that the connection ends.
    pub(super) fn close(&self) {
        self.closing.store(self.now(), Relaxed);
    }

    /// A call's metadata has arrived.
    pub(super) fn call(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Relaxed);
        Active(Arc::clone(self))
    }

    /// What is to be done next, and when to look again. `age` is when the connection is too old. While calls run the
    /// moment moves on: their end does not wake the connection's task for sure.
    pub(super) fn next(&self, options: &GrpcOptions, age: Instant) -> (Instant, Due) {
        let now = Instant::now();
        if let Some(since) = self.moment(&self.write_blocked) {
            return (
                since + options.write_timeout,
                Due::Cut("the client does not read"),
            );
        }
        let working = self.active.load(Relaxed) > 0;
        match self.moment(&self.closing) {
            // A shutdown has a limit of its own, which is shorter.
            Some(since) if working => (
                (since + options.max_connection_age_grace).min(now + LINGER),
                Due::Cut("its calls outlived it"),
            ),
            Some(since) => {
                let idle = since.max(self.idle_since());
                if self.has_to_take() {
                    let heard = self.moment(&self.heard).map_or(idle, |heard| heard.max(idle));
                    (
                        (heard + options.write_timeout).min(idle + options.max_connection_age_grace),
                        Due::Cut("the client does not take its responses"),
                    )
                } else {
                    (
                        idle + LINGER.min(options.shutdown_grace / 2),
                        Due::Cut("its end was said"),
                    )
                }
            }
            None if working => (age.min(now + options.idle_timeout), Due::Close),
            None if self.preface.load(Relaxed) < PREFACE => (
                self.begun + options.handshake_timeout,
                Due::Cut("the client is silent"),
            ),
            None => (age.min(self.idle_since() + options.idle_timeout), Due::Close),
        }
    }

    /// Whether the client of a connection that ends has to grant its responses a window yet: hyper ends one whose client
    /// has answered that and has all of them.
    fn has_to_take(&self) -> bool {
        self.idle.load(Relaxed) > 0 && self.heard.load(Relaxed) > 0
    }

    fn idle_since(&self) -> Instant {
        self.moment(&self.idle).unwrap_or(self.begun)
    }
}

/// A call in flight, from its metadata to the last byte of its response.
#[derive(Debug)]
pub(crate) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.idle.store(self.0.now(), Relaxed);
        self.0.active.fetch_sub(1, Relaxed);
    }
}

/// A stream of bytes that reports to an [`Activity`].
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn written<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let blocked = self.activity.write_blocked.load(Relaxed);
        match (&result, blocked) {
            (Poll::Pending, 0) => self.activity.write_blocked.store(self.activity.now(), Relaxed),
            (Poll::Ready(_), 1..) => self.activity.write_blocked.store(0, Relaxed),
            _ => {}
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let (preface, read) = (&self.activity.preface, buffer.filled().len() - before);
        if preface.load(Relaxed) < PREFACE {
            preface.fetch_add(read, Relaxed);
        }
        if read > 0 && self.activity.closing.load(Relaxed) > 0 {
            self.activity.heard.store(self.activity.now(), Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.written(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
