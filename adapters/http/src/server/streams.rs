//! The requests of HTTP/2 connections, each in a task that the server owns.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

tokio::task_local! {
    /// What the client of this task's request was offered of the response.
    static OFFER: Cell<Offer>;
}

#[derive(Debug, Clone, Copy, Default)]
struct Offer {
    /// How many parts there were.
    parts: u64,
    /// Whether the client's window has no room for the last of them.
    waits: bool,
}

/// Takes note that the response is asked for another part: hyper asks once the client's window has room for the last.
pub(super) fn taken() {
    let _ = OFFER.try_with(|offer| {
        let parts = offer.get().parts;
        offer.set(Offer { parts, waits: false });
    });
}

/// Takes note that the client is offered a part. False on HTTP/1, where the connection knows who does not read.
pub(super) fn offered() -> bool {
    let note = OFFER.try_with(|offer| {
        let parts = offer.get().parts + 1;
        offer.set(Offer { parts, waits: true });
    });
    note.is_ok()
}

/// Runs requests, and gives up those whose client takes nothing of its response (H-04).
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) tasks: TaskTracker,
    pub(super) cut: CancellationToken,
    write_timeout: Duration,
}

impl Streams {
    pub(super) fn new(write_timeout: Duration) -> Self {
        Self {
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            write_timeout,
        }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let (cut, limit) = (self.cut.clone(), self.write_timeout);
        let served = async move {
            tokio::select! {
                () = while_taken(stream, limit) => {}
                () = cut.cancelled() => {}
            }
        };
        self.tasks.spawn(OFFER.scope(Cell::default(), served));
    }
}

/// Runs a request to its end, or until a part of its response has waited for the client for `limit`. Dropped then, its
/// stream is reset, and the others of the connection go on.
async fn while_taken(stream: impl Future, limit: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut timed = 0;
    poll_fn(|context| {
        // What panicked is dropped unused. Nobody waits for this task, so nobody else would tell of it.
        match catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(context).is_ready())) {
            Ok(false) => {}
            Ok(true) => return Poll::Ready(()),
            Err(_panic) => {
                tracing::error!("a response panicked in its middle");
                return Poll::Ready(());
            }
        }
        let Offer { parts, waits } = OFFER.with(Cell::get);
        if !waits {
            return Poll::Pending;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if timed != parts {
            timed = parts;
            timer.as_mut().reset(Instant::now() + limit);
        }
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        tracing::debug!("response given up: its client does not take it");
        Poll::Ready(())
    })
    .await;
}
