//! A subscriber at work, and what its handler was called with.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use cqi_core::{
    Result,
    event::{ConsumeOptions, EventBus, Message, Route, Router, StartAt, Subscriber},
    name::{Group, Topic},
    policy::Retry,
    service::ServiceHandle,
};
use tokio::{sync::watch, time::Instant};

/// How long a group may take to start, and to drain.
const LIMIT: Duration = Duration::from_secs(60);

/// What was handled, in order.
#[derive(Debug, Clone)]
pub(crate) struct Seen(Arc<SeenInner>);

#[derive(Debug)]
struct SeenInner {
    calls: Mutex<Calls>,
    /// How many different events were handled.
    distinct: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Calls {
    handled: Vec<(String, u32)>,
    times: Vec<Instant>,
    known: HashSet<String>,
}

impl Default for Seen {
    fn default() -> Self {
        Self(Arc::new(SeenInner {
            calls: Mutex::default(),
            distinct: watch::Sender::new(0),
        }))
    }
}

impl Seen {
    /// Notes that this message was handled.
    pub(crate) fn note(&self, message: &Message) {
        let id = message.event.id().to_string();
        let distinct = {
            let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.known.insert(id.clone());
            calls.handled.push((id, message.attempt));
            calls.times.push(Instant::now());
            calls.known.len()
        };
        self.0.distinct.send_replace(distinct);
    }

    /// The ids in the order they were handled, repeats included.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.handled().into_iter().map(|(id, _)| id).collect()
    }

    /// The same, each with the attempt.
    pub(crate) fn handled(&self) -> Vec<(String, u32)> {
        let calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.handled.clone()
    }

    /// Waits until this many different events were handled; `false` when nothing new came for `quiet`.
    pub(crate) async fn reaches(&self, count: usize, quiet: Duration) -> bool {
        let mut distinct = self.0.distinct.subscribe();
        loop {
            if *distinct.borrow_and_update() >= count {
                return true;
            }
            match tokio::time::timeout(quiet, distinct.changed()).await {
                Ok(Ok(())) => {}
                _ => return false,
            }
        }
    }

    /// How long after `ready` the first event was handled.
    pub(crate) fn first_after(&self, ready: Instant) -> Option<Duration> {
        self.nth_after(ready, 0)
    }

    /// How long after `ready` this many and one more were handled.
    pub(crate) fn nth_after(&self, ready: Instant, others: usize) -> Option<Duration> {
        let calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let after = calls
            .times
            .iter()
            .filter_map(|time| time.checked_duration_since(ready));
        after.skip(others).min()
    }
}

/// One member of a group. Dropping it aborts it.
#[derive(Debug)]
pub(crate) struct Member(ServiceHandle);

impl Member {
    /// Joins, with `handle` for every event.
    ///
    /// # Panics
    /// When it does not become ready.
    pub(crate) async fn join<F, Fut>(
        bus: &Arc<dyn EventBus>,
        topic: &Topic,
        group: &str,
        options: ConsumeOptions,
        handle: F,
    ) -> Self
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let router = Router::new().route(topic.clone(), Route::from_fn(handle));
        let subscriber = Subscriber::new(Arc::clone(bus), Group::parse(group).unwrap(), router)
            .with_start_at(StartAt::Oldest)
            .with_options(options);
        Self(ServiceHandle::start(subscriber, LIMIT).await.unwrap())
    }

    /// Joins, and notes every event in `seen`.
    pub(crate) async fn reader(bus: &Arc<dyn EventBus>, topic: &Topic, group: &str, seen: &Seen) -> Self {
        let seen = seen.clone();
        let note = move |message: Message| {
            seen.note(&message);
            std::future::ready(Ok(()))
        };
        Self::join(bus, topic, group, options(), note).await
    }

    /// As [`Member::reader`], with handlers that stay at work once `gate` many have begun, until it is raised.
    pub(crate) async fn gated_reader(
        bus: &Arc<dyn EventBus>,
        topic: &Topic,
        group: &str,
        seen: &Seen,
        gate: &watch::Sender<usize>,
    ) -> Self {
        let (seen, gate, begun) = (seen.clone(), gate.subscribe(), Arc::new(AtomicUsize::new(0)));
        let note = move |message: Message| {
            let (seen, mut gate, turn) = (seen.clone(), gate.clone(), begun.fetch_add(1, Relaxed));
            async move {
                // It ends early only with the test.
                let _ = gate.wait_for(|open| turn < *open).await;
                seen.note(&message);
                Ok(())
            }
        };
        Self::join(bus, topic, group, options(), note).await
    }

    /// Drains and leaves.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.0.stop(LIMIT).await
    }
}

/// Short pauses and leases, so that what comes back comes soon; many attempts, so that an outage costs no dead letter.
pub(crate) fn options() -> ConsumeOptions {
    let retry = Retry {
        attempts: 1000,
        initial: Duration::from_millis(20),
        max: Duration::from_millis(200),
        ..Retry::default()
    };
    ConsumeOptions::default()
        .with_retry(retry)
        .with_ack_deadline(Duration::from_secs(3))
}

/// Reads the whole topic as a new group: until `count` different events were seen, or nothing new comes for `quiet`.
pub(crate) async fn read_all(
    bus: &Arc<dyn EventBus>,
    topic: &Topic,
    count: usize,
    quiet: Duration,
) -> Vec<String> {
    let seen = Seen::default();
    let reader = Member::reader(bus, topic, &cqi_testkit::unique("reader"), &seen).await;
    seen.reaches(count, quiet).await;
    reader.stop().await.unwrap();
    seen.ids()
}
