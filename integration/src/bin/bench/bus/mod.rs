//! The event bus on NATS and Kafka beside their bare clients: same server, same topic, same headers, same durability.

mod backlog;
mod consume;
mod cqi;
mod headers;
mod kafka;
mod nats;

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use cqi_core::{
    event::EventBus,
    name::{Topic, topic_name},
};
use cqi_testkit::fixture::Kind;

pub(crate) use self::backlog::Backlog;
use self::{
    consume::{Seen, Work},
    cqi::Cqi,
    kafka::Kafka,
    nats::Nats,
};
use crate::{
    measure::{Clock, SIZES, Took, drive, payload, sequential},
    report::{Report, Target},
    servers,
};

/// Messages in a batch.
const BATCH: usize = 256;
/// Publishers at once.
const PUBLISHERS: usize = 64;

/// A broker, asked directly.
trait Broker: Sized + Send + Sync + 'static {
    const KIND: Kind;
    /// The bare client's name.
    const PEER: &'static str;
    /// The case in which the bare client has as many publishes on their way as is good for it, and how many.
    const WINDOW: (&'static str, usize);
    /// The case of consuming.
    const CONSUME: &'static str;
    /// The bare client that reads the envelope of what it consumes.
    const ENVELOPE: &'static str;
    /// How many messages are published one by one, and how many otherwise, by size.
    const COUNTS: [(usize, usize); 2];
    /// How many times as many are consumed, so that the way to the last commit does not count for much.
    const CONSUMED: usize;
    /// What cqi's 64 publishers are to reach, against which case of the bare client.
    const SHARED: (f64, &'static str);
    type Bare: Peer;

    fn connect(url: &str) -> impl Future<Output = Self> + Send;
    /// Makes an empty topic.
    fn create(&self, topic: &Topic) -> impl Future<Output = ()> + Send;
    fn delete(&self, topic: &Topic) -> impl Future<Output = ()> + Send;
    /// How many messages a topic has.
    fn stored(&self, topic: &Topic) -> impl Future<Output = usize> + Send;
    /// How many messages of a topic a group has settled, from the first on.
    fn settled(&self, topic: &Topic, group: &str) -> impl Future<Output = usize> + Send;
    /// The bare client.
    fn bare(&self, topic: &Topic) -> impl Future<Output = Self::Bare> + Send;
    /// The adapter, with its default settings.
    fn adapter(&self, topic: &Topic) -> impl Future<Output = Arc<dyn EventBus>> + Send;
}

/// A client at work on one topic.
trait Peer: Send + Sync + 'static {
    /// Publishes, and waits for the broker's acknowledgement.
    fn publish(&self, payload: Bytes) -> impl Future<Output = ()> + Send;
    /// Publishes these and waits for all acknowledgements.
    fn batch(&self, payloads: Vec<Bytes>) -> impl Future<Output = ()> + Send;
    /// Publishes `total` messages, with at most `width` of them on their way.
    fn window(self: Arc<Self>, width: usize, total: usize, size: usize) -> impl Future<Output = ()> + Send;
    /// What goes on when the last message is seen and not yet settled.
    type Consuming: Send;
    /// Consumes the topic from its first message on, as a group that is new, until all is seen.
    fn consume(
        &self,
        group: &str,
        work: Work,
        seen: Arc<Seen>,
    ) -> impl Future<Output = Self::Consuming> + Send;
    fn end(consuming: Self::Consuming) -> impl Future<Output = ()> + Send;
}

/// Every case once for every peer, on NATS.
pub(crate) async fn nats(report: &mut Report) {
    round::<Nats>(report).await;
    report.note("JetStream, file storage, one replica; each message has its id for deduplication, and an acknowledgement awaited");
    report.note("consume + ack: pulled in batches of 256, acknowledged one by one without confirmation, until the server's ack floor is at the last");
    report.note("async-nats reads no header of what it consumes (its client parses them all the same); +envelope: id, time, source, content type and key");
}

/// Every case once for every peer, on Kafka.
pub(crate) async fn kafka(report: &mut Report) {
    round::<Kafka>(report).await;
    report
        .note("1 partition, acks=all, idempotent; linger 0, but for the bare client in `publish linger 5ms`");
    report.note("consume + commit: until the committed offset is behind the last; the bare client stores the offset of each message after it, and commits as cqi does: every 100 ms, and when nothing has come for 5 ms");
    report.note("rdkafka looks at a borrowed payload only; +envelope: the payload made its own, and id, time, source, content type and key read");
}

async fn round<B: Broker>(report: &mut Report) {
    let Some(url) = servers::url(report, B::KIND) else {
        return;
    };
    let broker = B::connect(&url).await;
    for (size, (few, many)) in SIZES.into_iter().zip(B::COUNTS) {
        let (few, many) = (report.count(few), report.count(many));
        publishing(report, &broker, size, few, many).await;
        consume::round(report, &broker, size, many * B::CONSUMED).await;
    }
    if report.is_first_round() {
        backlog::round(report, &broker, &url).await;
    }
    report.note(format!("`{}`: the bare client has one task that keeps so many publishes on their way, cqi as many tasks that each await their own", B::WINDOW.0));
    report.note("payloads are made anew for each publish; both clients send the same headers (CloudEvents), which each makes itself");
}

/// A topic that nobody else uses.
fn new_topic(what: &str) -> Topic {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    topic_name(&format!("bench_{what}_{}_{number}", process::id())).expect("a valid topic")
}

async fn publishing<B: Broker>(report: &mut Report, broker: &B, size: usize, few: usize, many: usize) {
    let topic = new_topic("publish");
    broker.create(&topic).await;
    let cqi = Arc::new(Cqi::new(broker.adapter(&topic).await, topic.clone()));
    let bare = Arc::new(broker.bare(&topic).await);
    let on = On {
        broker,
        topic: &topic,
        size,
    };
    let mut rates = Vec::new();
    for (case, total) in [
        (Case::OneByOne, few),
        (Case::Concurrent, many),
        (Case::Batch, many),
        (Case::Window, many),
    ] {
        let name = case.name::<B>();
        for peer in report.peers(&["cqi", B::PEER]) {
            let (took, nanos) = match peer {
                "cqi" => on.measure(case, &cqi, total).await,
                _ => on.measure(case, &bare, total).await,
            };
            rates.push((name, peer, report.rate(name, peer, size, total, took)));
            if let Some(mut nanos) = nanos {
                report.latency(name, peer, size, 99, &mut nanos);
            }
        }
        // The bare client's window is one task, cqi's are many publishers: no like for like.
        if case != Case::Window {
            report.as_good_as(name, size, B::PEER);
        }
    }
    shared::<B>(report, size, &rates);
    cqi.close().await;
    broker.delete(&topic).await;
}

/// What publishers gain by sharing: how often the bare client's rate in another case they reach.
fn shared<B: Broker>(report: &mut Report, size: usize, rates: &[(&str, &'static str, f64)]) {
    let (least, against) = B::SHARED;
    let rate = |case: &str, of: &str| {
        let found = rates.iter().find(|(name, peer, _)| *name == case && *peer == of);
        found.map(|(_, _, rate)| *rate)
    };
    let Some(base) = rate(against, B::PEER) else {
        return;
    };
    let concurrent = Case::Concurrent.name::<B>();
    let row = format!("{concurrent} / {} {against}", B::PEER);
    for peer in ["cqi", B::PEER] {
        if let Some(rate) = rate(concurrent, peer) {
            report.figure(&row, peer, size, rate / base, "times");
        }
    }
    report.target(&row, size, "times", Target::Above(least));
}

/// How publishers publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    OneByOne,
    /// From 64 tasks, each of which waits for its own acknowledgement.
    Concurrent,
    Batch,
    /// The bare client keeps a window of acknowledgements that it waits for; cqi has as many publishers.
    Window,
}

impl Case {
    fn name<B: Broker>(self) -> &'static str {
        match self {
            Self::OneByOne => "publish sync",
            Self::Concurrent => "publish x64",
            Self::Batch => "publish batch 256",
            Self::Window => B::WINDOW.0,
        }
    }
}

/// Where it is measured.
struct On<'a, B> {
    broker: &'a B,
    topic: &'a Topic,
    size: usize,
}

impl<B: Broker> On<'_, B> {
    /// Warms up, measures, and asks the broker whether all is there.
    async fn measure<P: Peer>(&self, case: Case, peer: &Arc<P>, total: usize) -> (Took, Option<Vec<u64>>) {
        let before = self.broker.stored(self.topic).await;
        let warm = total / 10;
        self.publish(case, peer, warm).await;
        let (took, nanos) = match case {
            Case::OneByOne => {
                let publish = |i| peer.publish(payload(i, self.size));
                let (took, nanos) = sequential(total, publish).await;
                (took, Some(nanos))
            }
            _ => {
                let clock = Clock::start();
                self.publish(case, peer, total).await;
                (clock.stop(), None)
            }
        };
        let stored = self.broker.stored(self.topic).await - before;
        assert_eq!(
            stored,
            warm + total,
            "{}: acknowledged and not stored",
            case.name::<B>()
        );
        (took, nanos)
    }

    async fn publish<P: Peer>(&self, case: Case, peer: &Arc<P>, total: usize) {
        let size = self.size;
        match case {
            Case::OneByOne => concurrently(peer, 1, total, size).await,
            Case::Concurrent => concurrently(peer, PUBLISHERS, total, size).await,
            Case::Batch => {
                for first in (0..total).step_by(BATCH) {
                    let batch = first..total.min(first + BATCH);
                    peer.batch(batch.map(|i| payload(i, size)).collect()).await;
                }
            }
            Case::Window => Arc::clone(peer).window(B::WINDOW.1, total, size).await,
        }
    }
}

/// Publishes from many tasks, each of which waits for its own acknowledgement.
async fn concurrently<P: Peer>(peer: &Arc<P>, tasks: usize, total: usize, size: usize) {
    let peer = Arc::clone(peer);
    let publish = move |i| {
        let peer = Arc::clone(&peer);
        async move { peer.publish(payload(i, size)).await }
    };
    drive(tasks, total, publish).await;
}
