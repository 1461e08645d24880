//! The one consume loop. An adapter yields deliveries; everything else about consuming is here.
//!
//! A fixed set of workers shares one feed. A worker without work becomes the fetcher: it pulls a batch, keeps the first
//! delivery and leaves the rest to the others. So nothing is fetched while something is ready to run, a lone event takes no
//! extra hop, and a busy subscription pulls in batches. While handlers end at once, the fetcher runs them all itself:
//! waking others would cost more than the handlers; the first that has to wait, or that computes for long, calls the
//! others in. Slow handlers are given no more than they can begin, so that other members have the rest. Events of one key run
//! one after another; a supervisor keeps the leases of all held deliveries alive.

mod feed;
mod leases;
mod options;
mod pace;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify},
    task::{JoinSet, coop::consume_budget, yield_now},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::options::ConsumeOptions;
use self::{feed::Feed, pace::Pace};
use super::{
    Deliveries, Delivery, EventBus, Message, Redelivery, Route, Subscription, lock, middleware,
    settle::Settling,
};
use crate::{
    Code, Error, Result,
    observe::{Observation, Observer},
    policy::{Backoff, later},
    request::Scope,
};

/// How long each last step of a drain may take: what fails comes back after its ack deadline anyway.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Leases are not renewed more often than this.
const SHORTEST_BEAT: Duration = Duration::from_millis(1);

/// One subscription at work.
pub(super) struct Consumer {
    pub(super) bus: Arc<dyn EventBus>,
    pub(super) subscription: Subscription,
    pub(super) route: Route,
    pub(super) options: ConsumeOptions,
    /// Asked for the trace, and told what goes wrong.
    pub(super) observer: Arc<dyn Observer>,
    /// Told of each message; `None` when there is nobody.
    pub(super) measured: Option<Arc<dyn Observer>>,
}

impl Consumer {
    /// Works until `stop`, then ends what runs and hands back the rest.
    ///
    /// # Errors
    /// `Temporary`/`Timeout` naming how many handlers did not end within the drain timeout; their events are handed
    /// back. `Permanent`/`Closed` when the bus was closed under the subscription.
    pub(super) async fn run(self, deliveries: Box<dyn Deliveries>, stop: CancellationToken) -> Result<()> {
        let options = self.options.clone();
        let beat = (options.ack_deadline / 3).max(SHORTEST_BEAT);
        let shared = Arc::new(Shared {
            beat,
            kept_at: Mutex::new(Instant::now()),
            source: AsyncMutex::new(deliveries),
            feed: Mutex::new(Feed::new(options.concurrency)),
            work: Notify::new(),
            // When one worker finds the end of the subscription, all stop.
            stop: stop.child_token(),
            stopping: AtomicBool::new(false),
            pace: Pace::default(),
            failures: AtomicU32::new(0),
            consumer: self,
        });
        let mut workers = JoinSet::new();
        for worker in 0..options.concurrency {
            let shared = Arc::clone(&shared);
            workers.spawn(async move {
                shared.work(worker).await;
                lock(&shared.feed).runs(worker, None);
            });
        }
        let mut heartbeat = interval_at(later(Instant::now(), beat), beat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A slow broker must not keep the loop below from seeing the shutdown.
        let mut beats = JoinSet::new();
        let mut drained_at = None;
        let overrun = async |at: Option<Instant>| match at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        };
        let result = loop {
            tokio::select! {
                biased;
                ended = workers.join_next() => match ended {
                    None => break Ok(()),
                    // Handlers' panics are caught inside; this is a bug of ours and must not pass unseen.
                    Some(Err(error)) => break Err(Error::panicked("consume worker").with_source(error)),
                    Some(Ok(())) => {}
                },
                () = shared.stop.cancelled(), if drained_at.is_none() => {
                    shared.stopping.store(true, Relaxed);
                    drained_at = Some(later(Instant::now(), options.drain_timeout));
                    shared.hand_back().await;
                }
                () = overrun(drained_at) => break shared.give_up(&mut workers).await,
                Some(_) = beats.join_next() => {}
                _ = heartbeat.tick(), if beats.is_empty() => {
                    let shared = Arc::clone(&shared);
                    beats.spawn(async move { shared.extend_all().await });
                }
            }
        };
        shared.hand_back().await;
        let _ = timeout(CLOSE_TIMEOUT, async { shared.source.lock().await.close().await }).await;
        match result {
            Ok(()) if !stop.is_cancelled() => {
                Err(Error::closed("event bus").with_operation("event_bus.consume"))
            }
            result => result,
        }
    }
}

struct Shared {
    consumer: Consumer,
    /// How often leases are extended, and when they were last.
    beat: Duration,
    kept_at: Mutex<Instant>,
    /// The one who has it fetches.
    source: AsyncMutex<Box<dyn Deliveries>>,
    feed: Mutex<Feed>,
    /// Told when the feed has work for another worker.
    work: Notify,
    stop: CancellationToken,
    /// Whether `stop` was seen: read once per message, where asking the token would take its lock.
    stopping: AtomicBool,
    pace: Pace,
    /// How many fetches have failed since one did not, whoever fetched.
    failures: AtomicU32,
}

/// The fetcher's hold on the source.
type Lead<'a> = Option<AsyncMutexGuard<'a, Box<dyn Deliveries>>>;

impl Shared {
    async fn work(&self, worker: usize) {
        let mut stop = pin!(self.stop.cancelled());
        let mut lead: Lead<'_> = None;
        while !self.stopping.load(Relaxed) {
            let next = lock(&self.feed).pop(worker);
            if let Some(delivery) = next {
                // Made where it stays: `await` alone would move it, with room for all that a handler may need.
                pin!(self.run(worker, delivery, &mut lead)).await;
                continue;
            }
            let mut source = match lead.take().map_or_else(|| self.source.try_lock(), Ok) {
                Ok(source) => source,
                Err(_) => tokio::select! {
                    biased;
                    () = &mut stop => return,
                    () = self.work.notified() => continue,
                    source = self.source.lock() => source,
                },
            };
            let wanted = {
                let mut feed = lock(&self.feed);
                if feed.has_ready() {
                    continue; // somebody fetched while this worker waited for its turn
                }
                feed.wanted(self.consumer.options.batch)
            };
            let fetched = tokio::select! {
                biased;
                // First, or what is redelivered at once because of the stop would be run again.
                () = &mut stop => return,
                fetched = source.next(wanted) => fetched,
            };
            match fetched {
                Some(Ok(batch)) => {
                    self.failures.store(0, Relaxed);
                    lock(&self.feed).push(batch);
                    lead = Some(source);
                    // A source that never runs dry must not keep the thread from other tasks.
                    consume_budget().await;
                }
                Some(Err(error)) => {
                    let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
                    self.pause(failures, &error).await;
                }
                None => self.stop.cancel(),
            }
        }
    }

    /// Waits after a failed fetch, so that a broker that is down is not asked in a hot loop.
    async fn pause(&self, failures: u32, error: &Error) {
        let backoff = Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            ..Backoff::default()
        };
        let delay = backoff
            .delay(failures)
            .max(error.retry_after().unwrap_or_default());
        let topic = &self.consumer.subscription.topic;
        tracing::warn!(%topic, delay_ms = delay.as_secs_f64() * 1e3, error = %error.chain(), "fetching events failed");
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// Runs one delivery and what waits behind it under the same key.
    async fn run(&self, worker: usize, delivery: Delivery, lead: &mut Lead<'_>) {
        let mut next = Some(delivery);
        while let Some(delivery) = next {
            if !self.pace.is_quick() {
                self.call_in_others(lead);
            }
            let key = delivery.event().shared_key().map(Arc::clone);
            let mut handled = pin!(self.handle(delivery));
            let started = self.pace.start();
            let at_once = poll_fn(|context| Poll::Ready(handled.as_mut().poll(context))).await;
            let others = self.pace.end(started);
            if at_once.is_pending() {
                self.call_in_others(lead);
                handled.await;
                self.catch_up().await;
            } else if others {
                yield_now().await;
                self.catch_up().await;
            }
            next = key.and_then(|key| lock(&self.feed).finish(worker, &key));
            if self.stopping.load(Relaxed) {
                if let Some(delivery) = next {
                    release(delivery).await;
                }
                return;
            }
        }
    }

    /// Lets another worker fetch, and one run what is ready, which wakes the next in turn.
    fn call_in_others(&self, lead: &mut Lead<'_>) {
        *lead = None;
        if lock(&self.feed).has_ready() {
            self.work.notify_one();
        }
    }

    async fn handle(&self, delivery: Delivery) {
        let Consumer {
            bus,
            subscription,
            route,
            options,
            observer,
            measured,
        } = &self.consumer;
        let message = Message::new(
            delivery.event().clone(),
            delivery.attempt(),
            subscription.group.clone(),
        );
        let span = middleware::span(&**observer, &message);
        // What few events need is boxed below: this future is made for each event, and is small without it.
        let work = pin!(async {
            // A handler that is cut off is dropped, with all it holds, before its event is settled.
            let outcome = {
                // The call itself may panic before it makes a future.
                let mut handling = pin!(Some(async {
                    pin!(middleware::standard(route, measured.as_deref(), message)).await
                }));
                let mut handled = pin!(poll_fn(|context| match handling.as_mut().as_pin_mut() {
                    Some(handling) => caught(handling, context),
                    None => Poll::Pending,
                }));
                // What is ready at once needs neither timer nor clock: the time runs from the first wait.
                let begin = Scope::default().within(options.handler_timeout);
                let first = poll_fn(|context| Poll::Ready(begin.step(|| handled.as_mut().poll(context))));
                let handled = match first.await {
                    Poll::Ready(outcome) => Ok(outcome),
                    Poll::Pending => {
                        let scope =
                            Scope::default().until(Instant::now().checked_add(options.handler_timeout));
                        let handled = scope.run(handled);
                        Box::pin(timeout(options.handler_timeout, handled)).await
                    }
                };
                // What it does while it is dropped is the handler's too.
                let ended = handled.unwrap_or_else(|_| {
                    let late = Error::timeout(options.handler_timeout).with_operation("event_bus.handle");
                    catch_unwind(AssertUnwindSafe(|| handling.set(None))).map(|()| Err(late))
                });
                ended.unwrap_or_else(|_| {
                    observer.observe(&Observation::PanicRecovered { place: "handler" });
                    Err(Error::temporary("handler panicked").with_code(Code::Panicked))
                })
            };
            let settled = match outcome {
                Ok(()) => delivery.ack().await,
                Err(error) => {
                    middleware::failed(&span, &error);
                    let settling = Settling {
                        bus: &**bus,
                        retry: &options.retry,
                        dead_letter: &options.dead_letter,
                        group: subscription.group.as_str(),
                        observer: &**observer,
                        stop: &self.stop,
                    };
                    Box::pin(settling.settle(delivery, error)).await
                }
            };
            if let Err(error) = settled {
                // Not settled: the broker gives the event out again after its ack deadline.
                tracing::warn!(topic = %subscription.topic, error = %error.chain(), "event could not be settled");
            }
        });
        if span.is_disabled() {
            work.await
        } else {
            work.instrument(span.clone()).await
        }
    }

    /// Hands back everything fetched and not started.
    async fn hand_back(&self) {
        let waiting = lock(&self.feed).take_all();
        join_all(waiting.into_iter().map(release)).await;
    }

    /// Stops handlers that did not end in time, and hands back what they had.
    async fn give_up(&self, workers: &mut JoinSet<()>) -> Result<()> {
        // A handler that blocks its thread cannot be stopped; it must not stop the drain either.
        let _ = timeout(CLOSE_TIMEOUT, workers.shutdown()).await;
        let held = lock(&self.feed).cut();
        let released = held.iter().map(|lease| lease.nack(Redelivery::Release));
        let _ = timeout(CLOSE_TIMEOUT, join_all(released)).await; // what fails comes back by its deadline
        if held.is_empty() {
            return Ok(());
        }
        Err(Error::timeout(self.consumer.options.drain_timeout)
            .with_operation("event_bus.drain")
            .with_context("topic", &self.consumer.subscription.topic)
            .with_context("handlers_cut", held.len()))
    }
}

/// Polls a future, for which a panic is an end too.
fn caught<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<thread::Result<F::Output>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

async fn release(delivery: Delivery) {
    let released = timeout(CLOSE_TIMEOUT, delivery.nack(Redelivery::Release)).await;
    if !matches!(released, Ok(Ok(()))) {
        tracing::debug!("delivery not handed back; it comes back after its ack deadline");
    }
}
