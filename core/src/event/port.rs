//! The event bus port: what an adapter implements, and the contract the conformance suite checks.

use std::{
    fmt,
    future::{poll_fn, ready},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::Event;
use crate::{
    Result,
    name::{Group, Topic},
};

/// How long an acknowledged event is safe.
#[allow(clippy::exhaustive_enums)] // the three levels are the promise
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Until the process ends.
    Memory,
    /// It survives a killed broker process.
    ProcessCrash,
    /// It survives a power loss: written through before the acknowledgement.
    PowerLoss,
}

/// What order a group sees.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// First deliveries of one key come in order; a redelivery may be overtaken.
    PerKey,
    /// Strictly in order per key: a redelivery holds back the later events of its key.
    PerKeyStrict,
    /// No order.
    None,
}

/// What a bus can do, as plain data. Every claim is tested in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // adapters build it whole, so that none forgets a field
pub struct Capabilities {
    /// How safe an acknowledged event is.
    pub durability: Durability,
    /// What order a group sees.
    pub order: Order,
    /// Whether a negative acknowledgement can ask for a delay; else redelivery is at once.
    pub delayed_redelivery: bool,
    /// For how long the bus itself drops a second event of the same id; `None` if it does not.
    pub dedup_window: Option<Duration>,
    /// The largest payload, in bytes.
    pub max_payload: usize,
    /// Whether a new group can start with events published before it existed.
    pub replay: bool,
}

/// Where a group that did not exist before begins.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// With events published after it exists.
    #[default]
    New,
    /// With the oldest event that is kept. Needs [`Capabilities::replay`].
    Oldest,
}

/// What to receive, and as whom.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The topic.
    pub topic: Topic,
    /// The consumer group: members share the events, every group gets all of them. The group outlives its members.
    pub group: Group,
    /// How long a delivery may stay unsettled before it is given to another member. Default 30 s.
    pub ack_deadline: Duration,
    /// Where a new group begins. Default: new events only.
    pub start_at: StartAt,
}

impl Subscription {
    /// A subscription with the defaults.
    pub fn new(topic: Topic, group: Group) -> Self {
        Self {
            topic,
            group,
            ack_deadline: Duration::from_secs(30),
            start_at: StartAt::New,
        }
    }

    /// Sets how long a delivery may stay unsettled.
    pub fn with_ack_deadline(mut self, ack_deadline: Duration) -> Self {
        self.ack_deadline = ack_deadline;
        self
    }

    /// Sets where a new group begins.
    pub fn with_start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }
}

/// A bus of events.
///
/// # Behaviour
/// - Delivery is at least once. `Ok` from `publish` means the broker has acknowledged the event at the declared
///   durability, never that it is queued on our side.
/// - Every group gets every event of its topic; the members of a group share them.
/// - Every method is cancel-safe: dropping its future loses no acknowledged event.
/// - Every method after [`EventBus::close`] answers `Permanent`/`Closed`; a second `close` is `Ok`.
#[async_trait]
pub trait EventBus: fmt::Debug + Send + Sync + 'static {
    /// What this bus can do.
    fn capabilities(&self) -> Capabilities;

    /// Publishes one event and waits for the broker's acknowledgement.
    ///
    /// # Errors
    /// - `InvalidInput`/`TooLarge` over [`Capabilities::max_payload`]; nothing was sent.
    /// - `Temporary` when the broker cannot be reached or has no room (`Exhausted`). If
    ///   [`may_have_applied`](crate::Error::may_have_applied) is set, the event may be stored all the same; publishing
    ///   it again under the same id is safe for consumers that know ids.
    async fn publish(&self, event: Event) -> Result<()>;

    /// Publishes many events in order, in as few round trips as the broker allows.
    ///
    /// Returns one result per event, in the order given. A bad event fails alone.
    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>>;

    /// Joins a consumer group, creating it when it does not exist.
    ///
    /// # Errors
    /// `Unsupported` for a `start_at` the bus lacks, `InvalidInput` for a zero ack deadline, `Temporary` when the
    /// broker cannot be reached.
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>>;

    /// Whether the broker answers.
    async fn ping(&self) -> Result<()>;

    /// Flushes what is pending and closes the connections. Idempotent.
    async fn close(&self) -> Result<()>;
}

/// The receiving end of a subscription. Core's consume loop pulls from it; nothing is pushed.
#[async_trait]
pub trait Deliveries: fmt::Debug + Send + 'static {
    /// Waits for at least one delivery and returns up to `max` that are ready, in order.
    ///
    /// - `None`: the bus was closed; there will be no more.
    /// - Cancel-safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// What the broker said. A temporary error does not end the subscription: calling again goes on.
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>>;

    /// Leaves the group. Deliveries in flight can still be settled. Dropping leaves as well, without waiting.
    async fn close(&mut self) -> Result<()>;
}

/// How an event comes back.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redelivery {
    /// It failed: again after the pause, with the attempt counted. Needs [`Capabilities::delayed_redelivery`] for a
    /// pause other than zero; without it such a pause is `Unsupported`, and the delivery stays as it was.
    After(Duration),
    /// It was not tried, because the consumer stops: at once, to anybody, with no attempt counted.
    Release,
}

/// Settles the deliveries of a batch, or a single one: `which` is the number that the adapter gave the delivery in its
/// [`Lease`].
///
/// Used through [`Delivery`], which makes settling twice impossible, and through [`Lease`]; a method is called only when it
/// is awaited there: an implementation may settle at the call, see [`settled`].
///
/// Every method is cancel-safe in the sense that the delivery is then either settled or comes back.
#[async_trait]
pub trait Acker: fmt::Debug + Send + Sync + 'static {
    /// The event was handled and shall not come back.
    ///
    /// # Errors
    /// `FailedPrecondition` when the ack deadline has passed and the delivery is no longer ours; `Temporary` when the
    /// broker cannot be reached. The event may come back in both cases.
    async fn ack(&self, which: u64) -> Result<()>;

    /// The event was not handled and comes back.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    async fn nack(&self, which: u64, redelivery: Redelivery) -> Result<()>;

    /// Work goes on: starts the ack deadline anew.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    async fn extend(&self, which: u64) -> Result<()>;
}

/// The answer of an [`Acker`] that has settled at the call. It takes no memory where that went well.
pub fn settled<'a>(result: Result<()>) -> BoxFuture<'a, Result<()>> {
    match result {
        Ok(()) => Box::pin(poll_fn(|_| Poll::Ready(Ok(())))),
        Err(error) => Box::pin(ready(Err(error))),
    }
}

/// The hold on one delivery: who has it can settle it, or keep it.
#[derive(Debug, Clone)]
pub struct Lease {
    acker: Arc<dyn Acker>,
    which: u64,
}

impl Lease {
    /// Made by adapters: what `acker` knows as number `which`. One acker for a whole batch spares memory for each delivery.
    pub fn new(acker: Arc<dyn Acker>, which: u64) -> Self {
        Self { acker, which }
    }

    /// Whether both are the hold on the same delivery.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.acker, &other.acker) && self.which == other.which
    }

    /// Settles: handled.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    pub async fn ack(&self) -> Result<()> {
        self.acker.ack(self.which).await
    }

    /// Settles: comes back.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    pub async fn nack(&self, redelivery: Redelivery) -> Result<()> {
        self.acker.nack(self.which, redelivery).await
    }

    /// Starts the ack deadline anew.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    pub async fn extend(&self) -> Result<()> {
        self.acker.extend(self.which).await
    }
}

/// One event given to one member of a group, until it is settled or its ack deadline passes.
#[must_use = "an unsettled delivery comes back only after its ack deadline"]
#[derive(Debug)]
pub struct Delivery {
    event: Event,
    attempt: u32,
    lease: Lease,
}

impl Delivery {
    /// Made by adapters. `attempt` counts from 1.
    pub fn new(event: Event, attempt: u32, lease: Lease) -> Self {
        Self {
            event,
            attempt,
            lease,
        }
    }

    /// Made by adapters: a batch, which `acker` knows by their places, from 0. With each event goes its attempt.
    pub fn batch(acker: &Arc<dyn Acker>, events: Vec<(Event, u32)>) -> Vec<Self> {
        events
            .into_iter()
            .zip(0..)
            .map(|((event, attempt), which)| Self::new(event, attempt, Lease::new(Arc::clone(acker), which)))
            .collect()
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Which attempt this is, from 1. Deliveries that were released do not count.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The parts, for wrappers that put a handle of their own around the lease.
    pub fn into_parts(self) -> (Event, u32, Lease) {
        (self.event, self.attempt, self.lease)
    }

    /// What keeps this delivery ours while it waits or runs.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Starts the ack deadline anew.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    pub async fn extend(&self) -> Result<()> {
        self.lease.extend().await
    }

    /// Settles: handled.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    pub async fn ack(self) -> Result<()> {
        self.lease.ack().await
    }

    /// Settles: comes back.
    ///
    /// # Errors
    /// As [`Acker::ack`].
    pub async fn nack(self, redelivery: Redelivery) -> Result<()> {
        self.lease.nack(redelivery).await
    }
}

const _: fn(&dyn EventBus, &dyn Deliveries, &dyn Acker) = |_, _, _| ();
