//! The tests of the tests: adapters broken on purpose, of which each must fail its check.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    event::{Capabilities, Deliveries, Event, EventBus, Subscription},
};
use cqi_testkit::{
    eventually,
    liars::{BusLie, lying_bus},
};
use tokio::{
    sync::{Mutex, watch},
    task::{JoinSet, block_in_place},
};

use crate::harness::{Broker, Findings, Load, Log, Member, Seen, Tune, crash, finish, topic};

/// How an adapter is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// `Ok` before the broker has acknowledged anything.
    AcksBeforeStoring,
    /// `Ok` when the broker cannot be reached.
    SwallowsOutages,
    /// An outcome that is not known is called a refusal.
    CallsUnknownRefused,
    /// Each second event overtakes the one before it.
    SwapsEvents,
}

#[derive(Debug)]
pub(crate) struct Liar {
    inner: Arc<dyn EventBus>,
    lie: Lie,
    later: Mutex<JoinSet<Result<()>>>,
    held: Mutex<Option<Event>>,
}

impl Liar {
    pub(crate) fn of(inner: &Arc<dyn EventBus>, lie: Lie) -> Arc<dyn EventBus> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            lie,
            later: Mutex::default(),
            held: Mutex::default(),
        })
    }
}

#[async_trait]
impl EventBus for Liar {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn publish(&self, event: Event) -> Result<()> {
        match self.lie {
            Lie::AcksBeforeStoring => {
                let inner = Arc::clone(&self.inner);
                self.later
                    .lock()
                    .await
                    .spawn(async move { inner.publish(event).await });
                Ok(())
            }
            Lie::SwallowsOutages => match self.inner.publish(event).await {
                Err(error) if error.is_temporary() => Ok(()),
                result => result,
            },
            Lie::CallsUnknownRefused => self
                .inner
                .publish(event)
                .await
                .map_err(|error| Error::new(error.kind(), error.message().to_owned())),
            Lie::SwapsEvents => {
                let mut held = self.held.lock().await;
                match held.take() {
                    None => *held = Some(event),
                    Some(earlier) => {
                        self.inner.publish(event).await?;
                        self.inner.publish(earlier).await?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        self.inner.publish_batch(events).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        self.inner.subscribe(subscription).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// What the check finds after loads through a liar. With an outage, the broker stands still while the second load
/// comes, and is killed before it reads a byte of it; the liar has gone by then, so that nothing is sent again.
async fn findings(lie: Lie, outage: bool) -> Option<Findings> {
    let broker = Broker::Nats;
    let server = broker.start()?;
    let tune = Tune {
        publish_timeout: Duration::from_secs(1),
        ..Tune::default()
    };
    let honest = broker.connect(server.url(), &tune).await.unwrap();
    let bus = Liar::of(&honest, lie);
    let (topic, log) = (topic(), Arc::new(Log::default()));
    let load = |prefix, events| Load {
        publishers: 1,
        events,
        keys: 1,
        prefix,
        ..Load::default()
    };
    finish(load("before", 100).start(&bus, &topic, &log), &log).await;
    if outage {
        let all = async || {
            let stored = broker.stored(server.url(), &topic).await.len();
            (stored == 100).then_some(()).ok_or(stored)
        };
        eventually("the first load is stored", Duration::from_secs(20), all)
            .await
            .unwrap();
        block_in_place(|| server.pause());
        finish(load("meanwhile", 3).start(&bus, &topic, &log), &log).await;
        // Its error, if any, is that the broker does not answer.
        let _ = bus.close().await;
        crash(&server, Duration::ZERO).await;
    }
    Some(Findings::of(&log, &broker.stored(server.url(), &topic).await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_acknowledges_before_storing_is_caught() {
    let Some(found) = findings(Lie::AcksBeforeStoring, true).await else {
        return;
    };
    assert_eq!(found.lost.len(), 3, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_swallows_outages_is_caught() {
    let Some(found) = findings(Lie::SwallowsOutages, true).await else {
        return;
    };
    assert_eq!(found.lost.len(), 3, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_swaps_events_is_caught() {
    let Some(found) = findings(Lie::SwapsEvents, false).await else {
        return;
    };
    assert!(!found.disorder.is_empty(), "{found:?}");
}

/// An event that is acknowledged as it is given out is lost with the member that had it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_acknowledges_on_delivery_is_caught() {
    let broker = Broker::Nats;
    let Some(server) = broker.start() else {
        return;
    };
    let honest = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let bus = lying_bus(Arc::clone(&honest), BusLie::AcksOnDelivery);
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let load = Load {
        events: 200,
        insist: true,
        ..Load::default()
    };
    finish(load.start(&bus, &topic, &log), &log).await;
    let gate = watch::Sender::new(load.events / 2);
    let member = Member::gated_reader(&bus, &topic, "group", &seen, &gate).await;
    assert!(seen.reaches(load.events / 2, Duration::from_secs(20)).await);
    drop(member); // as if it were killed, with handlers at work
    let member = Member::reader(&bus, &topic, "group", &seen).await;
    // More than the ack deadline: what is to come back has come by then.
    seen.reaches(load.events, Duration::from_secs(5)).await;
    member.stop().await.unwrap();
    let found = Findings::handled(&log, &seen.handled());
    assert!(!found.lost.is_empty(), "{found:?}");
}
