//! One partition in the ledger.

use std::collections::{BTreeMap, HashMap, VecDeque};

use cqi_core::event::Event;
use tokio::time::Instant;

use super::{
    entries::Entries,
    moment::Clock,
    notes::{self, Note},
};

#[derive(Debug)]
pub(super) struct Partition {
    /// Tells this ownership of the partition from earlier and later ones.
    pub(super) epoch: u64,
    /// The next offset that is not fetched yet.
    pub(super) position: i64,
    /// One past the last offset anything is known of beyond its being there.
    pub(super) touched: i64,
    pub(super) entries: Entries,
    /// What an earlier owner knew of events that are still to be fetched.
    pub(super) known: BTreeMap<i64, Note>,
    /// Keys with an event that is out or coming back, by their hash, and the offsets that wait behind it.
    pub(super) busy: HashMap<u64, VecDeque<i64>, foldhash::fast::RandomState>,
    /// Whether something was settled or noted since the last commit.
    pub(super) dirty: bool,
    /// Whether it is about to move to another member: nothing is given out any more.
    pub(super) moving: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) key: Option<u64>,
    /// Attempts that were made and count.
    pub(super) attempts: u32,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Can be given out.
    Ready,
    /// Behind another event of its key; then not before the moment.
    Behind(Option<Instant>),
    /// Comes back at the moment.
    Delayed(Instant),
    /// Given out under this number.
    Leased {
        number: u64,
        until: Instant,
        abandoned: bool,
    },
}

/// One delivery's claim: partition, its epoch, offset, and the number it was given out under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) partition: i32,
    pub(super) epoch: u64,
    pub(super) offset: i64,
    pub(super) number: u64,
}

/// The claim's delivery is no longer ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

/// What is to be committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) notes: String,
}

impl Entry {
    /// Whether it is out under this claim.
    pub(super) fn is_leased(&self, claim: Claim) -> bool {
        matches!(self.state, State::Leased { number, .. } if number == claim.number)
    }
}

impl Partition {
    /// The entry of a delivery that is still out under this claim.
    pub(super) fn leased(&mut self, claim: Claim) -> Result<&mut Entry, Lost> {
        let entry = self.entries.get_mut(claim.offset);
        entry.filter(|entry| entry.is_leased(claim)).ok_or(Lost)
    }

    pub(super) fn committed(&self, partition: i32, clock: Clock) -> Position {
        let low = self.entries.first().unwrap_or(self.position);
        let noted = self.entries.iter().map(|(offset, entry)| {
            let (attempts, until) = match entry.state {
                // Whoever takes over lets the deadline pass first; then this attempt has failed.
                State::Leased { until, .. } => (entry.attempts.saturating_add(1), Some(until)),
                State::Delayed(until) => (entry.attempts, Some(until)),
                State::Behind(until) => (entry.attempts, until),
                State::Ready => (entry.attempts, None),
            };
            let not_before = until.map_or(0, |until| clock.millis(until));
            (offset, Note { attempts, not_before })
        });
        let known = self
            .known
            .range(self.position..)
            .map(|(offset, note)| (*offset, *note));
        let notes = notes::encode(low, self.touched.max(low), clock.millis, noted.chain(known));
        Position {
            partition,
            offset: low,
            notes,
        }
    }
}
