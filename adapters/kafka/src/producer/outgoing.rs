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
    /// In which hand-over it was, see the outbox.
    turn: AtomicUsize,
    outcome: OnceLock<Result<(), RDKafkaErrorCode>>,
    waker: AtomicWaker,
}

impl Outgoing {
    pub(crate) fn new(event: Event) -> Self {
        Self {
            event,
            turn: AtomicUsize::new(0),
            outcome: OnceLock::new(),
            waker: AtomicWaker::new(),
        }
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
