//! The in-memory bus: the default for development and tests, under the same contract as a broker (BUS-13).
//!
//! Each topic is one bounded log; each consumer group reads it with a cursor of its own and keeps what it has in flight.
//! A group that lags holds publishers back once the log is full, so memory stays bounded; nothing is ever dropped.
//! Events live as long as the process. An event published to a topic without groups is acknowledged and gone.

mod deliveries;
mod group;
mod log;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release, SeqCst},
        },
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    deliveries::MemoryDeliveries,
    log::{Idle, Log},
};
use super::{Capabilities, Deliveries, Durability, Event, EventBus, Order, StartAt, Subscription};
use crate::{Code, Error, Result, name::Topic, policy::later};

/// The bounds of a [`MemoryBus`].
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone)]
pub struct MemoryBusOptions {
    /// The most events a topic's log, and each group's unsettled set, may hold. Default 1024.
    pub capacity: usize,
    /// The most bytes a topic's log may hold. Default 64 MiB.
    pub capacity_bytes: usize,
    /// The largest payload, in bytes. Default 1 MiB.
    pub max_payload: usize,
    /// How long `publish`, or a whole batch, waits for room before it answers `Temporary`/`Exhausted`. Default 5 s.
    pub publish_wait: Duration,
}

impl Default for MemoryBusOptions {
    fn default() -> Self {
        Self {
            capacity: 1024,
            capacity_bytes: 64 << 20,
            max_payload: 1 << 20,
            publish_wait: Duration::from_secs(5),
        }
    }
}

/// An [`EventBus`] in this process. Cheap to clone: clones share the events.
#[derive(Debug, Clone, Default)]
pub struct MemoryBus(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    options: MemoryBusOptions,
    topics: RwLock<HashMap<Topic, Arc<Log>, foldhash::fast::RandomState>>,
    closed: CancellationToken,
    idle: Arc<Idle>,
    /// Whether `closed` is cancelled: read for each event, where asking the token would take its lock.
    is_closed: AtomicBool,
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Acquire)
    }
}

impl Drop for Shared {
    /// Logs and groups know each other, and would keep each other.
    fn drop(&mut self) {
        let topics = self.topics.get_mut().unwrap_or_else(PoisonError::into_inner);
        topics.values().for_each(|log| log.dissolve());
    }
}

impl MemoryBus {
    /// A bus with other bounds than the default ones.
    pub fn new(options: MemoryBusOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            topics: RwLock::default(),
            closed: CancellationToken::new(),
            idle: Arc::default(),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// Waits until every group has settled every event, and says so. What is left when the process ends is lost, so a
    /// service that stops publishes no more, waits for this under a deadline, and then stops its subscribers.
    ///
    /// Cancel-safe.
    pub async fn idle(&self) {
        self.0.idle.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(&self.0.idle);
        loop {
            let mut settled = pin!(self.0.idle.settled.notified());
            settled.as_mut().enable(); // before looking, so that nothing settled in between is missed
            if self.unsettled() == 0 {
                return;
            }
            settled.await;
        }
    }

    /// How many events groups have not settled yet; an event counts once for each group.
    pub fn unsettled(&self) -> u64 {
        let topics = self.0.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().map(|log| log.unsettled()).sum()
    }

    fn check_open(&self) -> Result<()> {
        if self.0.is_closed() {
            Err(Error::closed("event bus"))
        } else {
            Ok(())
        }
    }

    fn check_size(&self, event: &Event) -> Result<()> {
        let (size, max) = (event.payload().len(), self.0.options.max_payload);
        if size <= max {
            return Ok(());
        }
        Err(
            Error::invalid_input(format!("payload has {size} bytes, at most {max} are allowed"))
                .with_code(Code::TooLarge)
                .with_operation("event_bus.publish")
                .with_context("topic", event.topic()),
        )
    }

    /// Appends the event to the log of its topic; gives it and the log back when there is no room.
    fn append(&self, event: Event) -> Result<(), (Event, Arc<Log>)> {
        let topics = self.0.topics.read().unwrap_or_else(PoisonError::into_inner);
        match topics.get(event.topic()) {
            Some(log) => log.append(event).map_err(|event| (event, Arc::clone(log))),
            None => Ok(()),
        }
    }

    /// Publishes one event, waiting for room until `until`, which is set at the first wait.
    async fn publish_until(&self, event: Event, until: &mut Option<Instant>) -> Result<()> {
        self.check_open()?;
        self.check_size(&event)?;
        let Err((event, log)) = self.append(event) else {
            return Ok(());
        };
        let topic = event.topic().clone();
        let wait = self.0.options.publish_wait;
        let until = *until.get_or_insert_with(|| later(Instant::now(), wait));
        tokio::select! {
            biased;
            () = self.0.closed.cancelled() => Err(Error::closed("event bus")),
            appended = timeout_at(until, log.append_waiting(event)) => appended.map_err(|_| {
                Error::temporary(format!("no room within {wait:?}: a consumer group lags behind"))
                    .with_code(Code::Exhausted)
                    .with_operation("event_bus.publish")
                    .with_context("topic", topic)
            }),
        }
    }
}

#[async_trait]
impl EventBus for MemoryBus {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: Durability::Memory,
            order: Order::PerKeyStrict,
            delayed_redelivery: true,
            dedup_window: None,
            max_payload: self.0.options.max_payload,
            replay: false,
        }
    }

    async fn publish(&self, event: Event) -> Result<()> {
        self.publish_until(event, &mut None).await
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        let mut until = None; // one wait for the whole batch
        let mut results = Vec::with_capacity(events.len());
        for event in events {
            results.push(self.publish_until(event, &mut until).await);
        }
        results
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        self.check_open()?;
        let Subscription {
            topic,
            group,
            ack_deadline,
            start_at,
        } = subscription;
        if ack_deadline.is_zero() {
            return Err(Error::invalid_input("ack deadline must not be zero").with_context("topic", topic));
        }
        if start_at == StartAt::Oldest {
            return Err(Error::unsupported("starting with the oldest event").with_context("topic", topic));
        }
        let log = {
            let mut topics = self.0.topics.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                topics
                    .entry(topic)
                    .or_insert_with(|| Arc::new(Log::new(self.0.options.clone(), Arc::clone(&self.0.idle)))),
            )
        };
        let group = Log::group(&log, &group);
        Ok(Box::new(MemoryDeliveries::new(
            group,
            ack_deadline,
            Arc::clone(&self.0),
        )))
    }

    async fn ping(&self) -> Result<()> {
        self.check_open()
    }

    async fn close(&self) -> Result<()> {
        self.0.is_closed.store(true, Release);
        self.0.closed.cancel();
        for log in self
            .0
            .topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            log.wake_groups();
        }
        Ok(())
    }
}

/// Counts somebody waiting for [`MemoryBus::idle`] while it lives.
struct Waiting<'a>(&'a Idle);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{Group, topic_name};

    /// F-LIFE-07: nor do its groups, which know their log, keep what is in it.
    #[tokio::test]
    async fn a_bus_that_is_gone_keeps_no_events() {
        let (topic, key) = (topic_name("asset_created").unwrap(), Arc::<str>::from("BTC"));
        let bus = MemoryBus::default();
        let join = |group| bus.subscribe(Subscription::new(topic.clone(), Group::parse(group).unwrap()));
        let (mut one, other) = (join("one").await.unwrap(), join("other").await.unwrap());
        for _ in 0..2 {
            let event = Event::builder(topic.clone()).key(Arc::clone(&key));
            bus.publish(event.build().unwrap()).await.unwrap();
        }
        let held = one.next(1).await.unwrap().unwrap();
        assert!(Arc::strong_count(&key) > 1);
        drop((one, other, bus));
        // What was given out can be settled all the same.
        for delivery in held {
            delivery.ack().await.unwrap();
        }
        assert_eq!(Arc::strong_count(&key), 1);
    }
}
