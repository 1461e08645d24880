//! What was asked of a server and how each call ended.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cqi_core::{Result, event::Event};
use tokio::{sync::watch, time::Instant};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Refused: it must not have taken effect.
    Failed,
    /// The error says that it may have taken effect.
    Unknown,
    /// Acknowledged: it must have taken effect.
    Ok,
}

impl Outcome {
    pub(crate) fn of<T>(result: &Result<T>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(error) if error.may_have_applied() => Self::Unknown,
            Err(_) => Self::Failed,
        }
    }
}

/// One event, over all attempts to publish it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Its place among the events of its key, from 0.
    pub(crate) number: u64,
    /// The best any attempt came to: an event of which one attempt is unknown and a later one refused is unknown.
    pub(crate) outcome: Outcome,
}

/// The log of one load. Shared by everybody who publishes.
#[derive(Debug)]
pub(crate) struct Log {
    state: Mutex<State>,
    acked: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// When each acknowledgement came.
    acks: Vec<Instant>,
    /// Calls that ended as unknown, and as refused.
    unknown: usize,
    failed: usize,
    slowest: Duration,
    /// Each different refusal once, and how often it came.
    errors: HashMap<String, usize>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            acked: watch::Sender::new(0),
        }
    }
}

impl Log {
    /// Notes that `event` was asked to be published at `asked`, which ended just now.
    pub(crate) fn note(&self, event: &Event, number: u64, asked: Instant, result: &Result<()>) -> Outcome {
        let outcome = Outcome::of(result);
        let now = Instant::now();
        {
            let mut state = self.lock();
            let entry = state
                .entries
                .entry(event.id().to_string())
                .or_insert_with(|| Entry {
                    key: event.key().unwrap_or_default().to_owned(),
                    number,
                    outcome,
                });
            entry.outcome = entry.outcome.max(outcome);
            state.slowest = state.slowest.max(now - asked);
            match outcome {
                Outcome::Ok => state.acks.push(now),
                Outcome::Unknown => state.unknown += 1,
                Outcome::Failed => state.failed += 1,
            }
            if let Err(error) = result {
                *state.errors.entry(error.to_string()).or_default() += 1;
            }
        }
        if outcome == Outcome::Ok {
            self.acked.send_modify(|acked| *acked += 1);
        }
        outcome
    }

    /// Waits until this many calls were acknowledged.
    pub(crate) async fn acked(&self, count: usize) {
        let mut acked = self.acked.subscribe();
        let seen = acked.wait_for(|acked| *acked >= count).await;
        assert!(seen.is_ok(), "the sender lives in the log");
    }

    /// Waits for the first acknowledgement from now on; gives how long after `ready` it came.
    pub(crate) async fn recovers(&self, ready: Instant) -> Duration {
        loop {
            let mut acked = self.acked.subscribe();
            if let Some(first) = self.first_after(ready) {
                return first;
            }
            assert!(acked.changed().await.is_ok(), "the sender lives in the log");
        }
    }

    /// How long after `ready` the first acknowledgement came.
    pub(crate) fn first_after(&self, ready: Instant) -> Option<Duration> {
        let state = self.lock();
        let after = state
            .acks
            .iter()
            .filter_map(|ack| ack.checked_duration_since(ready));
        after.min()
    }

    /// The events, by id.
    pub(crate) fn entries(&self) -> HashMap<String, Entry> {
        self.lock().entries.clone()
    }

    /// How many events ended so.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        let state = self.lock();
        state
            .entries
            .values()
            .filter(|entry| entry.outcome == outcome)
            .count()
    }

    /// How many calls ended as unknown.
    pub(crate) fn unknown_calls(&self) -> usize {
        self.lock().unknown
    }

    /// How many calls were refused.
    pub(crate) fn failed_calls(&self) -> usize {
        self.lock().failed
    }

    /// The longest any call took.
    pub(crate) fn slowest(&self) -> Duration {
        self.lock().slowest
    }

    /// The different errors, with how often each came.
    pub(crate) fn errors(&self) -> Vec<(String, usize)> {
        let mut errors: Vec<_> = self.lock().errors.clone().into_iter().collect();
        errors.sort();
        errors
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
