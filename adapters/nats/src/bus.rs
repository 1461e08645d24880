//! The bus.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    event::{Capabilities, Deliveries, Durability, Event, EventBus, Order, Subscription},
};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    NatsOptions,
    config::MAX_TIME,
    consumer,
    deliveries::NatsDeliveries,
    error,
    group::Group,
    link::{Link, lock},
    released::Released,
    stream::{self, Facts},
};

/// An [`EventBus`] on NATS JetStream. Cheap to clone: clones share the connection.
///
/// See the [crate] for what it promises.
#[derive(Debug, Clone)]
pub struct NatsBus(Arc<Shared>);

/// What everything made by one bus shares.
pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) options: NatsOptions,
    pub(crate) released: Released,
    /// The members' keepers, and publishes under way.
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
    is_closed: AtomicBool,
    /// Whether closing has ended; held by whoever closes.
    close_done: tokio::sync::Mutex<bool>,
    facts: Mutex<Facts>,
    /// The groups with members here, by consumer.
    groups: Mutex<HashMap<String, Arc<Group>>>,
    next_member: AtomicU64,
    started: Instant,
}

impl NatsBus {
    /// Connects, and makes sure of the stream.
    ///
    /// After that the connection heals itself whenever the server comes back.
    ///
    /// # Errors
    /// All name the server, none waits longer than [`NatsOptions::connection_timeout`].
    /// - `Temporary`/`Unavailable` when no NATS server answers there;
    /// - `Unauthorized` when it refuses the credentials, with `PermissionDenied` when the user may not use JetStream;
    /// - `Permanent`/`FailedPrecondition` when TLS does not match, JetStream is not enabled, or the stream exists and
    ///   cannot hold the events;
    /// - `InvalidInput` for bad options.
    pub async fn connect(options: NatsOptions) -> Result<Self> {
        options.validate()?;
        let started = Instant::now();
        let link = Link::open(&options).await?;
        // A server may insist on encryption that the URL does not ask for.
        if options.addresses()?.are_open_to_others() && !link.client().server_info().tls_required {
            let server = link.server();
            tracing::warn!(
                server,
                "the connection to NATS is not encrypted; tls:// encrypts it"
            );
        }
        let left = options.connection_timeout.saturating_sub(started.elapsed());
        let facts = stream::ensure(&link, &options.stream, left.max(Duration::from_millis(500)))
            .await
            .map_err(|error| error.with_operation("event_bus.connect"))?;
        if facts.duplicate_window < options.publish_timeout {
            tracing::warn!(
                stream = options.stream.name,
                window_s = facts.duplicate_window.as_secs(),
                "the stream's duplicate window is shorter than publishing may take: a repeated event may be stored twice"
            );
        }
        Ok(Self(Arc::new(Shared {
            released: Released::new(&options.stream, options.publish_timeout),
            link,
            options,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            is_closed: AtomicBool::new(false),
            close_done: tokio::sync::Mutex::new(false),
            facts: Mutex::new(facts),
            groups: Mutex::default(),
            next_member: AtomicU64::new(0),
            started,
        })))
    }
}

impl Shared {
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Acquire)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            Err(Error::closed("event bus"))
        } else {
            Ok(())
        }
    }

    /// A moment as a number.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Makes sure of the stream again, after somebody missed it.
    pub(crate) async fn ensure_stream(&self) -> Result<()> {
        let facts = stream::ensure(&self.link, &self.options.stream, self.options.publish_timeout).await?;
        let before = std::mem::replace(&mut *lock(&self.facts), facts.clone());
        if before.created != facts.created {
            tracing::error!(
                stream = self.options.stream.name,
                "the stream was made anew: events it held are lost"
            );
            for group in lock(&self.groups).values() {
                group.give_up(error::gone("the stream was deleted"));
            }
        }
        Ok(())
    }

    pub(crate) fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// A member more for the group of this consumer, and its number.
    pub(crate) fn enter(
        self: &Arc<Self>,
        consumer: String,
        subscription: &Subscription,
    ) -> (Arc<Group>, u64) {
        let member = self.next_member.fetch_add(1, AcqRel);
        let mut groups = lock(&self.groups);
        let group = groups.entry(consumer).or_insert_with_key(|consumer| {
            let group = Group::new(self, consumer.clone(), subscription.clone());
            self.tasks.spawn(Arc::clone(&group).keep());
            group
        });
        group.add(member);
        (Arc::clone(group), member)
    }

    /// A member less. The last one ends the group here.
    pub(crate) fn leave(&self, group: &Arc<Group>, member: u64) {
        let mut groups = lock(&self.groups);
        if group.remove(member) {
            groups.remove(&group.consumer);
            group.left().cancel();
        }
    }

    async fn look_at_stream(&self, within: Duration) -> Result<()> {
        match stream::look(&self.link, &self.options.stream, within).await? {
            Some(_) => Ok(()),
            None => Err(self.link.at(error::gone("the stream was deleted"))),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl EventBus for NatsBus {
    fn capabilities(&self) -> Capabilities {
        let facts = self.0.facts();
        Capabilities {
            durability: if facts.on_disk {
                Durability::ProcessCrash
            } else {
                Durability::Memory
            },
            order: Order::PerKey,
            delayed_redelivery: true,
            dedup_window: Some(facts.duplicate_window).filter(|window| !window.is_zero()),
            max_payload: self.0.max_payload(),
            replay: true,
        }
    }

    async fn publish(&self, event: Event) -> Result<()> {
        self.0.publish(event).await
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        self.0.publish_batch(events).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        let refused = |error: Error| error.with_operation("event_bus.subscribe");
        self.0.check_open().map_err(refused)?;
        if subscription.ack_deadline.is_zero() {
            return Err(refused(
                Error::invalid_input("ack deadline must not be zero")
                    .with_context("topic", &subscription.topic),
            ));
        }
        let ack_deadline = subscription.ack_deadline.min(MAX_TIME);
        let subscription = subscription.with_ack_deadline(ack_deadline);
        let name = consumer::name(&self.0.options.durable, &subscription);
        let deliveries = NatsDeliveries::join(&self.0, name, subscription)
            .await
            .map_err(refused)?;
        Ok(Box::new(deliveries))
    }

    async fn ping(&self) -> Result<()> {
        self.0.check_open()?;
        self.0
            .look_at_stream(self.0.options.connection_timeout)
            .await
            .map_err(|error| error.with_operation("event_bus.ping"))
    }

    /// Ends the subscriptions, waits for publishes under way, and closes the connection once the server has everything,
    /// all within [`NatsOptions::close_timeout`].
    async fn close(&self) -> Result<()> {
        let shared = &self.0;
        let end = Instant::now() + shared.options.close_timeout;
        shared.is_closed.store(true, Release);
        shared.closing.cancel();
        shared.tasks.close();
        // Whoever comes first does the work, and whoever is next does it when that one was cancelled.
        let mut done = shared.close_done.lock().await;
        if *done {
            return Ok(());
        }
        let _ = timeout_at(end, shared.tasks.wait()).await;
        // An answer to the last request proves that the server has read all that was sent before, acknowledgements too.
        if shared.link.is_up()
            && let Err(error) = shared
                .look_at_stream(end.saturating_duration_since(Instant::now()))
                .await
        {
            tracing::debug!(error = %error, "closing without the server's last answer");
        }
        let drain = async {
            // Draining returns at once; the client tells when it has ended.
            if shared.link.client().drain().await.is_ok() && shared.link.is_up() {
                shared.link.ended().await;
            }
        };
        if timeout(
            end.saturating_duration_since(Instant::now())
                .max(Duration::from_millis(200)),
            drain,
        )
        .await
        .is_err()
        {
            tracing::warn!(
                server = shared.link.server(),
                "the connection to NATS did not close in time"
            );
        }
        shared.link.give_up();
        *done = true;
        Ok(())
    }
}
