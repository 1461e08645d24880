//! What a connection is doing, and how long it may go on doing so.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use crate::HttpOptions;

/// Kept by the stream and the requests of one connection, asked by its task. The values are independent of each other
/// and only compared with the clock, so relaxed atomics do. A moment is in milliseconds after `begun`, plus one; zero
/// is "not now".
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    silent: AtomicBool,
    http2: AtomicBool,
    /// Whether there was a request of HTTP/2.
    served_http2: AtomicBool,
    /// Requests whose response has not been handed to the connection in full.
    active: AtomicUsize,
    awaiting_head: AtomicU64,
    idle: AtomicU64,
    write_blocked: AtomicU64,
    draining: AtomicU64,
    /// When the client of an HTTP/2 connection last said anything in a drain.
    heard: AtomicU64,
    /// The beginning of the last head of HTTP/1 as it came, for what hyper does not show.
    head: Mutex<Vec<u8>>,
    /// Whether a request asked for another protocol, so that the stream may become its handler's.
    may_switch: AtomicBool,
    /// Whether such a stream has to end, and who is to hear of it.
    cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// Told when the stream is dropped.
    gone: Notify,
}

/// The most bytes of a head that are kept.
const KEPT_HEAD: usize = 4096;

/// How long a connection that has no request lives on in a drain, for a request already on its way.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    SlowHead,
    SlowReader,
    Idle,
}

impl Activity {
    /// A connection that was just accepted and has a request's head to send.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            silent: AtomicBool::new(true),
            http2: AtomicBool::new(false),
            served_http2: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            awaiting_head: AtomicU64::new(1),
            idle: AtomicU64::new(0),
            write_blocked: AtomicU64::new(0),
            draining: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            head: Mutex::default(),
            may_switch: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            gone: Notify::new(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).map_or(u64::MAX, |now| now.saturating_add(1))
    }

    fn moment(&self, stored: &AtomicU64) -> Option<Instant> {
        let stored = stored.load(Relaxed);
        (stored > 0).then(|| self.begun + Duration::from_millis(stored - 1))
    }

    /// Whether the connection has no request, and the client does not learn of a drain but by losing one: HTTP/2 tells it.
    pub(super) fn may_get_request(&self) -> bool {
        self.active.load(Relaxed) == 0 && !self.http2.load(Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed) > 0
    }

    pub(super) fn drain(&self) {
        self.draining.store(self.now(), Relaxed);
    }

    /// A request's head has arrived in full.
    pub(super) fn request(self: &Arc<Self>, http2: bool) -> Active {
        self.active.fetch_add(1, Relaxed);
        self.awaiting_head.store(0, Relaxed);
        if http2 {
            self.http2.store(true, Relaxed);
            self.served_http2.store(true, Relaxed);
        }
        Active(Arc::clone(self))
    }

    /// When the connection is to be closed if nothing happens until then. `None` while a handler works.
    pub(super) fn deadline(&self, options: &HttpOptions) -> Option<(Instant, Overdue)> {
        if let Some(since) = self.moment(&self.write_blocked) {
            return Some((since + options.write_timeout, Overdue::SlowReader));
        }
        if self.active.load(Relaxed) > 0 {
            return None;
        }
        // hyper ends an HTTP/2 connection whose client has answered the drain and has all of its responses: this one has to
        // grant the rest of them a window yet.
        if let Some(heard) = self.moment(&self.heard) {
            let since = self.moment(&self.idle).map_or(heard, |idle| heard.max(idle));
            return Some((since + options.write_timeout, Overdue::SlowReader));
        }
        if let Some(since) = self.moment(&self.draining) {
            return Some((since + LINGER.min(options.shutdown_grace / 2), Overdue::Idle));
        }
        if let Some(since) = self.moment(&self.awaiting_head) {
            return Some((since + options.header_timeout, Overdue::SlowHead));
        }
        let since = self.moment(&self.idle).unwrap_or(self.begun);
        Some((since + options.idle_timeout, Overdue::Idle))
    }

    fn bytes_read(&self, bytes: &[u8]) {
        if self.is_draining() && self.served_http2.load(Relaxed) {
            self.heard.store(self.now(), Relaxed);
        }
        if self.active.load(Relaxed) > 0 || self.http2.load(Relaxed) {
            return;
        }
        let awaiting = self.awaiting_head.load(Relaxed);
        let silent = self.silent.swap(false, Relaxed);
        self.keep(bytes, silent || awaiting == 0);
        if silent && bytes.starts_with(b"PRI") {
            // From here on HTTP/2 frames arrive at any time; the limits of the idle hold instead.
            self.http2.store(true, Relaxed);
            self.idle.store(self.now(), Relaxed);
            self.awaiting_head.store(0, Relaxed);
        } else if awaiting == 0 {
            self.awaiting_head.store(self.now(), Relaxed);
        }
    }
}

/// What happens to a stream that goes on in another protocol: its handler has it then, and the connection's task waits.
impl Activity {
    pub(super) fn may_switch(&self) {
        self.may_switch.store(true, Relaxed);
    }

    /// Waits until nobody has the stream any more.
    pub(super) async fn gone(&self) {
        self.gone.notified().await;
    }

    /// Ends the stream, whoever has it, as soon as this is dropped.
    pub(super) fn cut_with(self: &Arc<Self>) -> Cut {
        Cut(Arc::clone(self))
    }

    fn check(&self, waker: &AtomicWaker, context: &Context<'_>) -> io::Result<()> {
        if !self.may_switch.load(Relaxed) {
            return Ok(());
        }
        waker.register(context.waker());
        if self.cut.load(Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

/// See [`Activity::cut_with`].
#[derive(Debug)]
pub(super) struct Cut(Arc<Activity>);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.cut.store(true, Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }
}

impl Activity {
    fn keep(&self, bytes: &[u8], first: bool) {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if first {
            head.clear();
        }
        let room = KEPT_HEAD - head.len();
        head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Whether the last head had a `Content-Length`. Known for one that began with a read of its own, and within its
    /// first 4 KiB; not for a pipelined one.
    pub(super) fn announced_length(&self) -> bool {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        head.split(|byte| *byte == b'\n')
            .skip(1)
            .take_while(|line| !matches!(line, [] | [b'\r']))
            .filter_map(|line| line.split(|byte| *byte == b':').next())
            .any(|name| name.eq_ignore_ascii_case(b"content-length"))
    }
}

/// A request in flight, from its head to the last byte of its response.
#[derive(Debug)]
pub(super) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.idle.store(self.0.now(), Relaxed);
        self.0.active.fetch_sub(1, Relaxed);
    }
}

/// A stream, encrypted or not, that reports to an [`Activity`].
#[derive(Debug)]
pub(super) struct Watched<T> {
    stream: T,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn written<N>(&self, result: Poll<io::Result<N>>) -> Poll<io::Result<N>> {
        let blocked = self.activity.write_blocked.load(Relaxed);
        match (&result, blocked) {
            (Poll::Pending, 0) => self.activity.write_blocked.store(self.activity.now(), Relaxed),
            (Poll::Ready(_), 1..) => self.activity.write_blocked.store(0, Relaxed),
            _ => {}
        }
        result
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.activity.gone.notify_one();
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.activity.check(&self.activity.reader, context)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(new @ [_, ..]) = buffer.filled().get(before..) {
            self.activity.bytes_read(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.check(&self.activity.writer, context)?;
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.check(&self.activity.writer, context)?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What TLS holds back is written here.
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.written(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything, and does not get rid of it: TLS whose client does not read.
    struct Stuck;

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn ml_http_2_a_drain_waits_for_what_tls_holds_back_of_a_response() {
        let options = HttpOptions::default();
        let mut context = Context::from_waker(std::task::Waker::noop());
        for shuts_down in [false, true] {
            let activity = Activity::new();
            let mut watched = Watched::new(Stuck, Arc::clone(&activity));
            activity.drain();
            let request = activity.request(false);
            assert!(
                Pin::new(&mut watched)
                    .poll_write(&mut context, b"the end")
                    .is_ready()
            );
            drop(request);
            let stream = Pin::new(&mut watched);
            let polled = if shuts_down {
                stream.poll_shutdown(&mut context)
            } else {
                stream.poll_flush(&mut context)
            };
            assert!(polled.is_pending());
            let (until, why) = activity.deadline(&options).unwrap();
            assert_eq!(why, Overdue::SlowReader);
            assert!(until > Instant::now() + LINGER);
        }
    }
}
