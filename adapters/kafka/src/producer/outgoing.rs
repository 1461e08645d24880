//! One event that is being published, and its outcome.

use std::{
    future::poll_fn,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
};

use cqi_core::event::Event;
use futures::task::AtomicWaker;
use rdkafka::types::RDKafkaErrorCode;

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) event: Event,
    /// In which turn of the outbox it was handed over, or one of the constants below. Changed by the outbox, under its lock.
    turn: AtomicU64,
    outcome: OnceLock<Result<(), RDKafkaErrorCode>>,
    waker: AtomicWaker,
}

/// In place of a turn: the event has not been handed over.
pub(super) const WAITING: u64 = u64::MAX;
/// In place of a turn: the publisher has heard of it.
pub(super) const HEARD: u64 = u64::MAX - 1;
/// In place of a turn: the publisher left before it was handed over.
pub(super) const CANCELLED: u64 = u64::MAX - 2;

impl Outgoing {
    pub(crate) fn new(event: Event) -> Self {
        Self {
            event,
            turn: AtomicU64::new(WAITING),
            outcome: OnceLock::new(),
            waker: AtomicWaker::new(),
        }
    }

    /// Whether it has not been handed over.
    pub(crate) fn is_waiting(&self) -> bool {
        self.turn() == WAITING
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Relaxed)
    }

    pub(crate) fn set_turn(&self, turn: u64) {
        self.turn.store(turn, Relaxed);
    }

    /// Tells the publisher.
    pub(crate) fn answer(&self, outcome: Result<(), RDKafkaErrorCode>) {
        let _ = self.outcome.set(outcome);
        self.waker.wake();
    }

    pub(crate) async fn outcome(&self) -> Result<(), RDKafkaErrorCode> {
        poll_fn(|context| {
            if let Some(outcome) = self.outcome.get() {
                return Poll::Ready(*outcome);
            }
            self.waker.register(context.waker());
            // It may have come before the waker was there.
            self.outcome
                .get()
                .map_or(Poll::Pending, |outcome| Poll::Ready(*outcome))
        })
        .await
    }
}
