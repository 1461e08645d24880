//! The bus itself.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{
    Code, Error, Result,
    event::{Capabilities, Deliveries, Durability, Event, EventBus, Order, Subscription, header},
    name::{Group as GroupName, Topic},
};
use futures::future::join_all;
use rdkafka::{producer::Producer as _, types::RDKafkaErrorCode};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::{
    client::lock,
    config::KafkaOptions,
    consumer::{AGES, Group, Member},
    error::from_code,
    producer::{PUBLISH, Producer},
    topics::Topics,
};

/// How soon a connection's last trouble is looked at first.
const SLICE: Duration = Duration::from_millis(250);
const CONNECT: &str = "event_bus.connect";
/// Why there may be no word from a broker that takes connections.
const HUNG_UP: &str =
    "brokers that want TLS hang up on plain connections: see the property security.protocol";
/// How long the members of this process may take to leave their groups.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An [`EventBus`] on Apache Kafka. Cheap to clone: clones are the same connection.
#[derive(Debug, Clone)]
pub struct KafkaBus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: Arc<KafkaOptions>,
    producer: RwLock<Arc<Producer>>,
    topics: Topics,
    /// The groups this process is a member of. All subscriptions of one group and topic share one membership.
    groups: Mutex<HashMap<(Topic, GroupName), Weak<Group>>>,
    closed: AtomicBool,
}

impl KafkaBus {
    /// Connects, and returns once a broker has answered.
    ///
    /// # Errors
    /// `InvalidInput` for settings that cannot be; `Temporary`/`Unavailable` when no broker answers within
    /// `connection_timeout`, or all are found to be away before; `Unauthorized` when the brokers refuse the login.
    pub async fn connect(options: KafkaOptions) -> Result<Self> {
        options.validate()?;
        let options = Arc::new(options);
        let bus = Self(Arc::new(Shared {
            producer: RwLock::new(Arc::new(Producer::new(&options)?)),
            topics: Topics::new(Arc::clone(&options)),
            groups: Mutex::default(),
            closed: AtomicBool::new(false),
            options,
        }));
        bus.answers(CONNECT, bus.0.options.connection_timeout).await?;
        Ok(bus)
    }

    /// Waits until a broker answers.
    async fn answers(&self, operation: &'static str, limit: Duration) -> Result<()> {
        let producer = self.0.producer();
        let topic = self.0.topics.any();
        let may_lack_tls = operation == CONNECT && self.0.options.is_plain();
        let brokers = self.0.options.brokers.len();
        let asked = spawn_blocking(move || {
            let until = Instant::now() + limit;
            let (mut slice, mut told) = (SLICE, None::<Error>);
            // What was so before is no answer to this. A client that was just made may have said already what it says once.
            if operation != CONNECT {
                producer.trouble().take();
                producer.trouble().all_down();
            }
            loop {
                let left = until.saturating_duration_since(Instant::now());
                // Each round asks anew, and an answer may be slow: the last round is the longest.
                let last = left <= slice * 3;
                let patience = if last { left } else { slice };
                let topic = topic.as_ref().map(Topic::as_str);
                let Err(error) = producer.inner().client().fetch_metadata(topic, patience) else {
                    return Ok(());
                };
                // A broker may have other addresses, which the next round tries.
                let all_away = operation == CONNECT && slice > SLICE && producer.trouble().away() >= brokers;
                let all_down = producer.trouble().all_down() || all_away;
                if let Some((code, reason)) = producer.trouble().take() {
                    told = Some(from_code(code, operation).with_context("reason", reason));
                }
                // A wrong password, or brokers that all refuse, do not mend by waiting. Of several, one may answer.
                if let Some(error) = told.take_if(|error| error.is_unauthorized() || all_down) {
                    return Err(error);
                }
                if last {
                    return Err(told.unwrap_or_else(|| {
                        let code = error.rdkafka_error_code();
                        let error = from_code(code.unwrap_or(RDKafkaErrorCode::OperationTimedOut), operation);
                        match may_lack_tls {
                            true => error.with_context("hint", HUNG_UP),
                            false => error,
                        }
                    }));
                }
                slice *= 2;
            }
        });
        match asked.await {
            Ok(answer) => answer.map_err(|error| error.with_context("servers", self.0.options.servers())),
            Err(_) => Err(Error::temporary("the call was cut off").with_code(Code::Cancelled)),
        }
    }

    fn check_size(&self, event: &Event) -> Result<()> {
        let (size, max) = (event.payload().len(), self.0.options.max_payload());
        // Others may fill a message to the brim: its dead letter is as large, and refused only by who counts the whole.
        if size <= max || event.headers().get(header::GROUP).is_some() {
            return Ok(());
        }
        Err(
            Error::invalid_input(format!("payload has {size} bytes, at most {max} are allowed"))
                .with_code(Code::TooLarge)
                .with_operation(PUBLISH)
                .with_context("topic", event.topic()),
        )
    }

    /// Makes sure of the topic, until `until` at most.
    async fn make_sure(&self, topic: &Topic, until: Instant) -> Result<()> {
        if self.0.topics.is_known(topic) {
            return Ok(());
        }
        let until = until.min(Instant::now() + self.0.options.connection_timeout);
        self.0.topics.ensure(&self.0.producer(), topic, until).await
    }

    fn settle(&self, producer: &Arc<Producer>, topic: &Topic, result: Result<()>) -> Result<()> {
        if result.is_err() && producer.is_broken() {
            self.0.replace(producer);
        }
        if let Err(error) = &result
            && error.is_not_found()
        {
            self.0.topics.forget(topic); // deleted under us: the next attempt makes sure of it again
        }
        result
    }
}

impl Shared {
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Acquire) {
            return Err(Error::closed("event bus"));
        }
        Ok(())
    }

    fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces a producer that is beyond help, unless somebody has done so.
    fn replace(&self, broken: &Arc<Producer>) {
        let mut current = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, broken) {
            return;
        }
        tracing::warn!(
            servers = self.options.servers(),
            "the producer does not recover, and is replaced"
        );
        match Producer::new(&self.options) {
            Ok(new) => *current = Arc::new(new),
            Err(error) => tracing::error!(error = %error.chain(), "no new producer"),
        }
    }

    /// The membership of this process in a group, joined if it is new.
    fn group(&self, subscription: &Subscription) -> Result<Arc<Group>> {
        let mut groups = lock(&self.groups);
        self.check_open()?; // under the lock: close() sees every group, or the group sees the close
        groups.retain(|_, group| group.strong_count() > 0);
        let key = (subscription.topic.clone(), subscription.group.clone());
        if let Some(group) = groups.get(&key).and_then(Weak::upgrade)
            && group.enter()
        {
            return Ok(group);
        }
        let group = Group::start(&self.options, subscription)?;
        groups.insert(key, Arc::downgrade(&group));
        Ok(group)
    }
}

#[async_trait]
impl EventBus for KafkaBus {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: Durability::ProcessCrash,
            order: Order::PerKeyStrict,
            delayed_redelivery: true,
            dedup_window: None, // idempotence covers the producer's own repeats only
            max_payload: self.0.options.max_payload(),
            replay: true,
        }
    }

    async fn publish(&self, event: Event) -> Result<()> {
        self.0.check_open()?;
        let until = Instant::now() + self.0.options.publish_timeout;
        self.check_size(&event)?;
        self.make_sure(event.topic(), until).await?;
        let producer = self.0.producer();
        let topic = event.topic().clone();
        let result = producer.publish(event, until).await;
        self.settle(&producer, &topic, result)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        if let Err(error) = self.0.check_open() {
            return vec![Err(error); events.len()];
        }
        let until = Instant::now() + self.0.options.publish_timeout;
        let mut results: Vec<_> = events.iter().map(|event| self.check_size(event)).collect();
        let mut topics: HashMap<&Topic, Vec<usize>> = HashMap::new();
        for (at, event) in events.iter().enumerate().filter(|(at, _)| results[*at].is_ok()) {
            topics.entry(event.topic()).or_default().push(at);
        }
        // Side by side: a topic that is not to be had takes no time from others.
        let publish = async |(topic, places): (&Topic, Vec<usize>)| {
            if let Err(error) = self.make_sure(topic, until).await {
                return places.into_iter().map(|at| (at, Err(error.clone()))).collect();
            }
            let producer = self.0.producer();
            let own = places.iter().map(|at| events[*at].clone()).collect();
            let sent = producer.publish_all(own, until).await;
            let settled = sent.into_iter().map(|sent| self.settle(&producer, topic, sent));
            places.into_iter().zip(settled).collect::<Vec<_>>()
        };
        for (at, result) in join_all(topics.into_iter().map(publish))
            .await
            .into_iter()
            .flatten()
        {
            results[at] = result;
        }
        results
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        self.0.check_open()?;
        if subscription.ack_deadline.is_zero() {
            return Err(Error::invalid_input("ack deadline must not be zero")
                .with_context("topic", subscription.topic));
        }
        let until = Instant::now() + self.0.options.connection_timeout;
        self.make_sure(&subscription.topic, until).await?;
        let ack_deadline = subscription.ack_deadline.min(AGES);
        let subscription = subscription.with_ack_deadline(ack_deadline);
        let member = Member::new(self.0.group(&subscription)?, ack_deadline);
        member.ready(self.0.options.join_timeout).await?;
        Ok(Box::new(member))
    }

    async fn ping(&self) -> Result<()> {
        self.0.check_open()?;
        self.answers("event_bus.ping", self.0.options.connection_timeout)
            .await
    }

    async fn close(&self) -> Result<()> {
        let groups: Vec<_> = {
            let groups = lock(&self.0.groups);
            self.0.closed.store(true, Release);
            groups.values().filter_map(Weak::upgrade).collect()
        };
        for group in &groups {
            group.close();
        }
        let producer = self.0.producer();
        let limit = self.0.options.publish_timeout;
        let flushed = spawn_blocking(move || producer.flush(limit)).await;
        let until = Instant::now() + LEAVE_TIMEOUT;
        let left = timeout_at(until, join_all(groups.iter().map(|group| group.left()))).await;
        if left.is_err() {
            return Err(Error::timeout(LEAVE_TIMEOUT)
                .with_operation("event_bus.close")
                .with_context("what", "leaving the consumer groups"));
        }
        match flushed {
            Ok(flushed) => flushed,
            Err(_) => Err(Error::temporary("flush was cut off").with_operation("event_bus.close")),
        }
    }
}
