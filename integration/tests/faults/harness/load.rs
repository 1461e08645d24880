//! Publishers that keep publishing, whatever happens to the broker.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    event::{Event, EventBus},
    name::Topic,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::log::{Log, Outcome};

/// Pause after a call that failed, so that an outage is not filled with refusals.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a whole load may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How much is published, by how many.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Tasks, each of which publishes one event after another.
    pub(crate) publishers: usize,
    /// Events of all publishers together.
    pub(crate) events: usize,
    /// Keys of each publisher, which no other uses.
    pub(crate) keys: usize,
    /// What the keys begin with: no two loads of a test have a key in common.
    pub(crate) prefix: &'static str,
    /// Bytes of each payload.
    pub(crate) payload: usize,
    /// Whether an event is published again, under its id, until it is acknowledged; else each event has one attempt.
    pub(crate) insist: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            publishers: 8,
            events: 20_000,
            keys: 16,
            prefix: "p",
            payload: 256,
            insist: false,
        }
    }
}

impl Load {
    /// Starts publishing. Every publisher ends after its share.
    pub(crate) fn start(&self, bus: &Arc<dyn EventBus>, topic: &Topic, log: &Arc<Log>) -> JoinSet<()> {
        let mut publishers = JoinSet::new();
        for publisher in 0..self.publishers {
            let share =
                self.events / self.publishers + usize::from(publisher < self.events % self.publishers);
            let (bus, log) = (Arc::clone(bus), Arc::clone(log));
            publishers.spawn(self.clone().publish(publisher, share, bus, topic.clone(), log));
        }
        publishers
    }

    async fn publish(
        self,
        publisher: usize,
        share: usize,
        bus: Arc<dyn EventBus>,
        topic: Topic,
        log: Arc<Log>,
    ) {
        for n in 0..share {
            let key = format!("{}{publisher}-{}", self.prefix, n % self.keys);
            let number = n / self.keys;
            let event = event(&topic, &key, self.payload);
            let number = u64::try_from(number).unwrap();
            loop {
                let asked = Instant::now();
                let result = bus.publish(event.clone()).await;
                if log.note(&event, number, asked, &result) == Outcome::Ok {
                    break;
                }
                sleep(PAUSE).await;
                if !self.insist {
                    break;
                }
            }
        }
    }
}

/// A few events that are published until they are acknowledged, for whether things go on after a fault.
pub(crate) fn afterwards() -> Load {
    Load {
        events: 100,
        prefix: "after",
        insist: true,
        ..Load::default()
    }
}

/// Waits for the end of all publishers.
///
/// # Panics
/// When that takes too long, with what was answered to them.
pub(crate) async fn finish(publishers: JoinSet<()>, log: &Log) {
    let ended = tokio::time::timeout(LIMIT, publishers.join_all()).await;
    assert!(
        ended.is_ok(),
        "publishing does not end within {LIMIT:?}: {} events done, {:#?}",
        log.entries().len(),
        log.errors()
    );
}

/// An event with a new id.
pub(crate) fn event(topic: &Topic, key: &str, payload: usize) -> Event {
    let body = vec![b'x'; payload];
    Event::builder(topic.clone())
        .key(key)
        .payload(body)
        .build()
        .unwrap()
}
