//! Consuming: all of a topic, until the broker says that all is settled.

use std::{
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use cqi_core::name::Topic;
use tokio::{sync::Notify, time::sleep};

use super::{Broker, Cqi, Peer, new_topic};
use crate::{
    measure::{Clock, Took, number},
    report::Report,
};

/// What the bare client does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// It looks at the payload.
    Payload,
    /// It reads the envelope too, into a value of its own, as who handles the event elsewhere must have it.
    Envelope,
}

/// What a consumer saw. The clock starts with the first message.
pub(super) struct Seen {
    total: usize,
    size: usize,
    count: AtomicUsize,
    sum: AtomicUsize,
    clock: Mutex<Option<Clock>>,
    done: Notify,
}

impl Seen {
    pub(super) fn new(total: usize, size: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            size,
            count: AtomicUsize::new(0),
            sum: AtomicUsize::new(0),
            clock: Mutex::default(),
            done: Notify::new(),
        })
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Notes a message.
    pub(super) fn saw(&self, payload: &[u8]) {
        self.sum.fetch_add(number(payload, self.size), Relaxed);
        let before = self.count.fetch_add(1, Relaxed);
        if before == 0 {
            *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(Clock::start());
        }
        if before + 1 == self.total {
            self.done.notify_one();
        }
    }

    /// Waits until all were seen.
    pub(super) async fn all(&self) {
        self.done.notified().await;
    }

    /// Stops the clock, and checks that each message came once.
    fn stop(&self) -> Took {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner).take();
        let took = clock.expect("a first message").stop();
        let (count, sum) = (self.count.load(Relaxed), self.sum.load(Relaxed));
        let expected = self.total * (self.total - 1) / 2;
        assert_eq!((count, sum), (self.total, expected), "messages lost or doubled");
        took
    }
}

pub(super) async fn round<B: Broker>(report: &mut Report, broker: &B, size: usize, total: usize) {
    let topic = new_topic("feed");
    broker.create(&topic).await;
    let bare = Arc::new(broker.bare(&topic).await);
    Arc::clone(&bare).window(B::WINDOW.1, total, size).await;
    let cqi = Cqi::new(broker.adapter(&topic).await, topic.clone());
    for peer in report.peers(&["cqi", B::ENVELOPE, B::PEER]) {
        let on = (broker, &topic);
        let took = match peer {
            "cqi" => measure(on, &cqi, Work::Envelope, total, size).await,
            peer if peer == B::ENVELOPE => measure(on, &*bare, Work::Envelope, total, size).await,
            _ => measure(on, &*bare, Work::Payload, total, size).await,
        };
        report.rate(B::CONSUME, peer, size, total, took);
    }
    report.as_good_as(B::CONSUME, size, B::ENVELOPE);
    cqi.close().await;
    broker.delete(&topic).await;
}

/// Consumes the topic twice, as two groups: the first is the warm-up.
async fn measure<B: Broker, P: Peer>(
    (broker, topic): (&B, &Topic),
    peer: &P,
    work: Work,
    total: usize,
    size: usize,
) -> Took {
    let mut took = None;
    for _ in 0..2 {
        let (group, seen) = (new_group(), Seen::new(total, size));
        broker.settled(topic, &group).await; // who asks is connected before the clock runs
        let consuming = peer.consume(&group, work, Arc::clone(&seen)).await;
        while broker.settled(topic, &group).await < total {
            sleep(Duration::from_millis(1)).await;
        }
        took = Some(seen.stop());
        P::end(consuming).await;
    }
    took.expect("two runs")
}

/// A group that nobody else is in.
pub(super) fn new_group() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("bench-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed))
}
