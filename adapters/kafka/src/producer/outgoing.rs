//! One event that is being published, and its outcome.

use std::{
    future::poll_fn,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use cqi_core::event::Event;
use futures::task::AtomicWaker;
use rdkafka::types::RDKafkaErrorCode;

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) event: Event,
    /// In which hand-over to the client it was, or one of the constants below. Changed by the outbox, under its lock.
    turn: AtomicUsize,
    outcome: OnceLock<Result<(), RDKafkaErrorCode>>,
    waker: AtomicWaker,
}

/// In place of a turn: the event has not been handed over.
pub(super) const WAITING: usize = 0;
/// The last turn, before the first.
pub(super) const LAST: usize = usize::MAX - 2;
/// In place of a turn: the publisher has heard of it.
pub(super) const HEARD: usize = usize::MAX - 1;
/// In place of a turn: the publisher left before it was handed over.
pub(super) const CANCELLED: usize = usize::MAX;

impl Outgoing {
    pub(crate) fn new(event: Event) -> Self {
        Self {
            event,
            turn: AtomicUsize::new(WAITING),
            outcome: OnceLock::new(),
            waker: AtomicWaker::new(),
        }
    }

    /// Whether it has not been handed over.
    pub(crate) fn is_waiting(&self) -> bool {
        self.turn() == WAITING
    }

    pub(crate) fn turn(&self) -> usize {
        self.turn.load(Relaxed)
    }

    pub(crate) fn set_turn(&self, turn: usize) {
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
