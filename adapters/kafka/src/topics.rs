//! Making sure that a topic is there before it is used.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex as StdMutex, PoisonError, RwLock, Weak},
    time::Duration,
};

use cqi_core::{Code, Error, Result, name::Topic};
use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::RDKafkaLogLevel,
    error::KafkaError,
    metadata::MetadataPartition,
    producer::Producer as _,
    types::RDKafkaErrorCode,
};
use tokio::{
    sync::{Mutex, OnceCell},
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    client::{self, lock},
    config::KafkaOptions,
    error::{from_client, from_code},
    producer::Producer,
};

const OPERATION: &str = "event_bus.topic";

/// The topics that are known to be there.
#[derive(Debug)]
pub(crate) struct Topics {
    options: Arc<KafkaOptions>,
    known: RwLock<HashSet<Topic, foldhash::fast::RandomState>>,
    /// One look-up or creation of a topic at a time: one that is not to be had holds up no other.
    turns: StdMutex<HashMap<Topic, Weak<Mutex<()>>>>,
    admin: OnceCell<AdminClient<Quiet>>,
}

/// The administrator's callbacks.
#[derive(Debug)]
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl Topics {
    pub(crate) fn new(options: Arc<KafkaOptions>) -> Self {
        Self {
            options,
            known: RwLock::default(),
            turns: StdMutex::default(),
            admin: OnceCell::new(),
        }
    }

    pub(crate) fn is_known(&self, topic: &Topic) -> bool {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(topic)
    }

    /// One of the known topics.
    pub(crate) fn any(&self) -> Option<Topic> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .next()
            .cloned()
    }

    /// Somebody was told that the topic is not there: it is looked up anew.
    pub(crate) fn forget(&self, topic: &Topic) {
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(topic);
    }

    /// Returns once `topic` is there, creating it if that is allowed; at `until` at the latest.
    ///
    /// # Errors
    /// `NotFound` when it is missing and must not be created here, `Unauthorized`/`PermissionDenied` when the broker
    /// forbids it, `Temporary`/`Timeout` when it is not known by `until`.
    pub(crate) async fn ensure(&self, producer: &Arc<Producer>, topic: &Topic, until: Instant) -> Result<()> {
        let limit = until.saturating_duration_since(Instant::now());
        let late = || {
            Error::temporary(format!("the topic is not known to be there within {limit:?}"))
                .with_code(Code::Timeout)
                .with_operation(OPERATION)
                .with_context("topic", topic)
        };
        let turn = self.turn(topic);
        let Ok(_turn) = timeout_at(until, turn.lock()).await else {
            return Err(late());
        };
        let mut created = false;
        while !self.is_known(topic) {
            if Instant::now() >= until {
                return Err(late());
            }
            match look_up(producer, topic, created, until).await? {
                Found::Ready => {
                    self.known
                        .write()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(topic.clone());
                }
                Found::Missing if !created && self.options.create_topics => {
                    self.create(topic, until).await?;
                    created = true;
                }
                Found::Missing if !created => {
                    return Err(Error::not_found("topic", topic)
                        .with_operation(OPERATION)
                        .with_context("remedy", "create it, or allow create_topics"));
                }
                // It takes a moment until every broker knows of it.
                Found::Missing | Found::Settling => sleep(Duration::from_millis(20)).await,
            }
        }
        Ok(())
    }

    fn turn(&self, topic: &Topic) -> Arc<Mutex<()>> {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| turn.strong_count() > 0);
        turns.get(topic).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turn = Arc::default();
            turns.insert(topic.clone(), Arc::downgrade(&turn));
            turn
        })
    }

    async fn create(&self, topic: &Topic, until: Instant) -> Result<()> {
        let make = async || {
            client::settings(&self.options)
                .create_with_context(Quiet)
                .map_err(|error| from_client(&error, OPERATION))
        };
        let admin = self.admin.get_or_try_init(make).await?;
        let new = NewTopic::new(
            topic.as_str(),
            self.options.partitions,
            TopicReplication::Fixed(self.options.replication),
        );
        let limit = until.saturating_duration_since(Instant::now());
        let how = AdminOptions::new()
            .request_timeout(Some(limit))
            .operation_timeout(Some(limit));
        let results = admin
            .create_topics([&new], &how)
            .await
            .map_err(|error| from_client(&error, OPERATION))?;
        for result in results {
            match result {
                Ok(_) => tracing::info!(%topic, partitions = self.options.partitions, "topic created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(from_code(code, OPERATION).with_context("topic", topic)),
            }
        }
        Ok(())
    }
}

enum Found {
    Ready,
    /// No partition has a leader; or it is new, and has one without.
    Settling,
    Missing,
}

async fn look_up(producer: &Arc<Producer>, topic: &Topic, is_new: bool, until: Instant) -> Result<Found> {
    let (client, name) = (Arc::clone(producer), topic.clone());
    let left = move || until.saturating_duration_since(Instant::now());
    let looked = spawn_blocking(move || {
        let metadata = client
            .inner()
            .client()
            .fetch_metadata(Some(name.as_str()), left())
            .map_err(|error| client.trouble().explain(&error, OPERATION))?;
        let Some(found) = metadata
            .topics()
            .iter()
            .find(|found| found.name() == name.as_str())
        else {
            return Ok(Found::Missing);
        };
        let mut leaders = found.partitions().iter().map(MetadataPartition::leader);
        match found.error().map(RDKafkaErrorCode::from) {
            None if found.partitions().is_empty() => Ok(Found::Missing),
            // A partition whose leader is lost does not hold up the others.
            None if !is_new && leaders.clone().any(|leader| leader >= 0) => Ok(Found::Ready),
            None if leaders.all(|leader| leader >= 0) => {
                // The leaders of a new topic are named a moment before they take records.
                let answers = |partition: i32| {
                    let client = client.inner().client();
                    client.fetch_watermarks(name.as_str(), partition, left()).is_ok()
                };
                let ready = found.partitions().iter().all(|partition| answers(partition.id()));
                Ok(if ready { Found::Ready } else { Found::Settling })
            }
            None | Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Found::Settling),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(Found::Missing),
            Some(code) => Err(from_code(code, OPERATION)),
        }
    });
    match looked.await {
        Ok(found) => found.map_err(|error| error.with_context("topic", topic)),
        Err(_) => Err(Error::temporary("look-up was cut off").with_code(Code::Cancelled)),
    }
}
