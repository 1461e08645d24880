//! When what is committed.

use std::{sync::atomic::Ordering::SeqCst, thread, time::Duration};

use rdkafka::{
    consumer::Consumer as _,
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use tokio::time::Instant;

use super::{
    callbacks::{Move, agree},
    driver::{Driver, NAP},
    group::State,
    moment::Clock,
    partition::Position,
    placing,
};
use crate::client::lock;

/// How often settled events are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// The same, when nothing is left to settle for a moment.
const COMMIT_IDLE: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(5);
/// How long a commit may take that a move of partitions waits for.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last commit may take. While its group rebalances, the client sends a commit only after the answer to its
/// own joining, for which the coordinator waits until every other member has let go of its partitions.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

impl Driver {
    /// Commits now and then.
    pub(super) fn keep_committed(&mut self) {
        let now = Instant::now();
        let mut state = lock(&self.group.state);
        if self.commit.is_some() || now < self.commit_due(&state) {
            return;
        }
        let positions = state.ledger.positions(None, Clock::now());
        state.idle = false;
        drop(state);
        if !positions.is_empty() {
            self.start_commit(positions);
        }
    }

    /// When to commit next. After the last event, what is settled is not left open for longer than it takes to be sure
    /// that it was the last.
    pub(super) fn commit_due(&self, state: &State) -> Instant {
        if state.idle && state.ledger.held() == 0 {
            return (self.committed_at + COMMIT_IDLE).max(state.asked + IDLE);
        }
        self.committed_at + COMMIT_EVERY
    }

    pub(super) fn start_commit(&mut self, positions: Vec<Position>) {
        let partitions = positions.iter().map(|position| position.partition).collect();
        self.committed_at = Instant::now();
        self.commit = Some(partitions);
        tracing::trace!(group = self.group.id, ?positions, "commit");
        self.committer.begin(positions);
    }

    /// Commits and waits for the answer. There is one commit at a time, so that answers are not taken for each other.
    pub(super) fn commit_now(&mut self, positions: &[Position], limit: Duration) -> Result<(), KafkaError> {
        let until = Instant::now() + limit;
        let mut answer = Ok(());
        while !positions.is_empty() {
            if self.commit.is_some() {
                let _ = self.answer(until)?; // of an earlier one: whatever it says, this one says more
            }
            self.start_commit(positions.to_vec());
            answer = self.answer(until)?;
            // While a group rebalances, its coordinator may refuse for a moment.
            if answer.is_ok() || Instant::now() + NAP >= until {
                break;
            }
            thread::park_timeout(NAP / 4);
        }
        answer
    }

    /// The answer to the commit on its way; an error when it does not come in time.
    pub(super) fn answer(&mut self, until: Instant) -> Result<KafkaResult<()>, KafkaError> {
        loop {
            let served = self.serve();
            if served.is_err() || Instant::now() >= until {
                self.ended = self.ended.take().or(served.err());
                return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut));
            }
            if self.commit.is_none() {
                return Ok(std::mem::replace(&mut self.committed, Ok(())));
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Commits the last state and leaves the group.
    pub(super) fn end(mut self) {
        self.group.remove_queues(None);
        let positions = {
            let mut state = lock(&self.group.state);
            // All of them: a commit on its way may fail yet.
            let owned = state.ledger.partitions();
            let positions = state.ledger.positions(Some(&owned), Clock::now());
            state.ledger.clear(); // what is settled from now on is settled too late
            positions
        };
        if !self.consumer.assignment_lost()
            && let Err(error) = self.commit_now(&positions, LAST_COMMIT_TIMEOUT)
        {
            tracing::warn!(group = self.group.id, %error, "left without the last commit: events come again");
        }
        self.callbacks().closing.store(true, SeqCst);
        for change in std::mem::take(&mut *lock(&self.callbacks().moves)) {
            let (Move::Assign(partitions) | Move::Revoke(partitions)) = &change;
            agree(
                &self.consumer,
                &change,
                &placing::list(&self.group.topic, partitions),
            );
        }
        // Dropping the client leaves the group, and lasts until the broker has answered.
    }
}
