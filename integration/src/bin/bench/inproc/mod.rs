//! From publish to handled, inside one process: the memory bus beside channels.
//!
//! The bus gives every delivery to its handler until it is acknowledged, so the channels it is measured against say of
//! each message that it was handled, too (`+ack`). Plain channels, which lose what was not handled, stand beside them.

mod channels;
mod check;
mod cqi;
mod stuck;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use self::{
    channels::{AckedBroadcast, AckedMpsc, PlainBroadcast, PlainMpsc},
    check::Check,
    cqi::Cqi,
};
use crate::{
    measure::{Clock, SIZES, Took, payload},
    report::{Report, Target},
};

/// What a consumer does with a message of its group.
type Handler = Arc<dyn Fn(usize, &Bytes) + Send + Sync>;

/// How many messages a channel, or the bus, holds, and how many may be unacknowledged.
const CAPACITY: usize = 1024;

/// How often latency is measured with tasks that are new: by where the runtime happens to put them, and whether it wakes its
/// other thread, one start has a p99 ten times that of another, with every peer.
const STARTS: usize = 20;

const PEERS: [&str; 5] = [
    "cqi",
    "tokio-mpsc+ack",
    "tokio-broadcast+ack",
    "tokio-mpsc",
    "tokio-broadcast",
];

/// Who consumes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    name: &'static str,
    groups: usize,
    /// Handlers at once in each group of the bus.
    concurrency: usize,
    /// Consumers behind each channel.
    receivers: usize,
    /// Messages have one of this many keys, and come in order per key; 0: no keys.
    keys: usize,
    /// Whether the time from publish to handler is measured, too.
    latency: bool,
}

/// A group as it is by default: eight handlers at once.
const BY_DEFAULT: Shape = Shape {
    name: "1x1",
    groups: 1,
    concurrency: 8,
    receivers: 1,
    keys: 0,
    latency: true,
};

const SHAPES: [Shape; 5] = [
    BY_DEFAULT,
    Shape {
        name: "1x4",
        groups: 4,
        ..BY_DEFAULT
    },
    Shape {
        name: "1x1 one handler",
        concurrency: 1,
        ..BY_DEFAULT
    },
    Shape {
        name: "1x1 8 receivers",
        receivers: 8,
        latency: false,
        ..BY_DEFAULT
    },
    Shape {
        name: "1x1 8 receivers, 1000 keys",
        receivers: 8,
        keys: 1000,
        latency: false,
        ..BY_DEFAULT
    },
];

/// One way to get messages from a publisher to every group.
trait Bus: Sized + Send {
    /// Starts the consumers.
    fn start(shape: Shape, handler: Handler) -> impl Future<Output = Self> + Send;
    /// Hands over one message, as soon as there is room.
    fn publish(&mut self, number: usize, payload: Bytes) -> impl Future<Output = ()> + Send;
    /// Waits until every group has handled, and where it does so, acknowledged, every message.
    fn settled(&mut self) -> impl Future<Output = ()> + Send;
    /// Ends the consumers.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    for shape in SHAPES {
        for size in SIZES {
            for peer in report.peers(&PEERS) {
                match peer {
                    "cqi" => case::<Cqi>(report, peer, shape, size).await,
                    "tokio-mpsc+ack" => case::<AckedMpsc>(report, peer, shape, size).await,
                    _ if shape.receivers > 1 || shape.concurrency == 1 => {} // measured above, or against mpsc alone
                    "tokio-broadcast+ack" => case::<AckedBroadcast>(report, peer, shape, size).await,
                    "tokio-mpsc" => case::<PlainMpsc>(report, peer, shape, size).await,
                    _ => case::<PlainBroadcast>(report, peer, shape, size).await,
                }
            }
            targets(report, shape, size);
        }
    }
    if report.has("cqi") {
        stuck::round(report).await;
    }
    report.note(
        "+ack: every message is acknowledged by itself; channels and the bus hold at most 1024 messages",
    );
    report.note("the bus runs eight handlers at once, its default, except where one is named; a channel has one receiver, except where eight are");
    report.note("p50, p99: publish to handler in a closed loop; the next is published when every group has handled the last");
}

fn targets(report: &mut Report, shape: Shape, size: usize) {
    match (shape.name, size) {
        ("1x1" | "1x1 one handler" | "1x1 8 receivers", 256) => {
            report.target(shape.name, size, "op/s", Target::AtLeast(0.5, "tokio-mpsc+ack"));
        }
        ("1x4", 256) => report.target("1x4", size, "op/s", Target::AtLeast(0.5, "tokio-broadcast+ack")),
        _ => {}
    }
    if matches!(shape.name, "1x1" | "1x4") {
        let case = format!("{} p99", shape.name);
        report.target(&case, size, "us", Target::AtMost(3.0, "tokio-mpsc"));
    }
}

async fn case<B: Bus>(report: &mut Report, peer: &'static str, shape: Shape, size: usize) {
    let total = report.count(if shape.groups == 1 { 200_000 } else { 100_000 });
    throughput::<B>(shape, size, total / 10).await;
    let took = throughput::<B>(shape, size, total).await;
    report.rate(shape.name, peer, size, total, took);
    if shape.latency {
        let mut nanos = Vec::new();
        for _ in 0..STARTS {
            nanos.append(&mut latency::<B>(shape, size, report.count(2_000)).await);
        }
        report.latency(shape.name, peer, size, 50, &mut nanos);
        report.latency(shape.name, peer, size, 99, &mut nanos);
    }
}

/// Publishes as fast as there is room, until all is handled.
async fn throughput<B: Bus>(shape: Shape, size: usize, total: usize) -> Took {
    let check = Arc::new(Check::new(shape, size));
    let seen = Arc::clone(&check);
    let mut bus = B::start(shape, Arc::new(move |group, payload| seen.saw(group, payload))).await;
    let clock = Clock::start();
    for i in 0..total {
        bus.publish(i, payload(i, size)).await;
    }
    bus.settled().await;
    let took = clock.stop();
    bus.close().await;
    check.saw_all(total);
    took
}

/// Publishes the next message when every group has handled the last. Returns nanoseconds from publish to handler, without
/// the first tenth.
async fn latency<B: Bus>(shape: Shape, size: usize, total: usize) -> Vec<u64> {
    let epoch = Instant::now();
    let now = move || u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let published = Arc::new(AtomicU64::new(0));
    let (handled, mut all) = mpsc::channel(64);
    let since = Arc::clone(&published);
    let handler = move |_: usize, _: &Bytes| {
        let took = now() - since.load(Relaxed);
        handled
            .try_send(took)
            .expect("one message of each group at a time");
    };
    let mut bus = B::start(shape, Arc::new(handler)).await;
    let mut nanos = Vec::with_capacity(total * shape.groups);
    for i in 0..total {
        let payload = payload(i, size);
        published.store(now(), Relaxed);
        bus.publish(i, payload).await;
        for _ in 0..shape.groups {
            nanos.push(all.recv().await.expect("a consumer that runs"));
        }
    }
    bus.settled().await;
    bus.close().await;
    nanos.split_off(nanos.len() / 10)
}
