//! What a member of a group has in hand: which events wait, run, come back, and what may be committed.
//!
//! Per partition there is the position up to which events were fetched, and the unsettled events below it. Everything
//! below the first unsettled one may be committed; what is settled beyond it is told in the commit's notes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::BuildHasher as _,
    time::{Duration, Instant},
};

use cqi_core::event::{Event, Redelivery};

use super::notes::{self, Note};

/// All partitions a member owns.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    partitions: HashMap<i32, Partition>,
    /// What can be given out, as partition and offset. What is no longer there, or no longer ready, is passed over.
    ready: VecDeque<(i32, i64)>,
    /// Unsettled events, and the bytes of their payloads and headers.
    held: usize,
    held_bytes: usize,
    next_number: u64,
    /// Nothing comes back before this.
    due: Option<Instant>,
    keys: foldhash::fast::RandomState,
}

#[derive(Debug)]
struct Partition {
    /// Tells this ownership of the partition from earlier and later ones.
    epoch: u64,
    /// The next offset that is not fetched yet.
    position: i64,
    /// One past the last offset anything is known of beyond its being there.
    touched: i64,
    entries: BTreeMap<i64, Entry>,
    /// What an earlier owner knew of events that are still to be fetched.
    known: BTreeMap<i64, Note>,
    /// Keys with an event that is out or coming back, by their hash, and the offsets that wait behind it.
    busy: HashMap<u64, VecDeque<i64>, foldhash::fast::RandomState>,
    /// Whether something was settled or noted since the last commit.
    dirty: bool,
    /// Whether it is about to move to another member: nothing is given out any more.
    moving: bool,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    key: Option<u64>,
    /// Attempts that were made and count.
    attempts: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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
    partition: i32,
    epoch: u64,
    offset: i64,
    number: u64,
}

/// What is to be committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) notes: String,
}

/// The claim's delivery is no longer ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

impl Ledger {
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// When something comes back next, at the earliest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.partitions.values().any(|partition| partition.dirty)
    }

    /// Begins to own a partition, at its committed offset and with the notes committed beside it.
    pub(super) fn own(&mut self, partition: i32, offset: i64, notes: &str) {
        self.forget(partition);
        self.next_number += 1;
        let (touched, known) = notes::decode(offset, notes).unwrap_or((offset, BTreeMap::new()));
        self.partitions.insert(
            partition,
            Partition {
                epoch: self.next_number,
                position: offset,
                touched,
                entries: BTreeMap::new(),
                known,
                busy: HashMap::default(),
                dirty: false,
                moving: false,
            },
        );
    }

    /// Gives out nothing of this partition any more.
    pub(super) fn stop(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.moving = true;
        }
    }

    /// The partition is no longer ours: what was given out of it can no longer be settled here.
    pub(super) fn forget(&mut self, partition: i32) {
        if let Some(gone) = self.partitions.remove(&partition) {
            self.held -= gone.entries.len();
            self.held_bytes -= gone
                .entries
                .values()
                .map(|entry| entry.event.size())
                .sum::<usize>();
        }
    }

    /// Takes an event that was fetched. Returns whether there is more to give out.
    pub(super) fn insert(&mut self, number: i32, offset: i64, event: Event, clock: Clock) -> bool {
        let Some(partition) = self.partitions.get_mut(&number) else {
            return false;
        };
        if offset < partition.position {
            return false; // fetched before
        }
        partition.position = offset + 1;
        let mut note = Note::default();
        if offset < partition.touched {
            // What compaction or retention took away leaves its note behind.
            partition.known = partition.known.split_off(&offset);
            match partition.known.remove(&offset) {
                Some(known) => note = known,
                None => {
                    partition.dirty = true;
                    return false; // settled by an earlier owner
                }
            }
        }
        let key = event.key().map(|key| self.keys.hash_one(key));
        let until = clock.instant(note.not_before);
        self.held += 1;
        self.held_bytes += event.size();
        let waits = key.is_some_and(|key| match partition.busy.get_mut(&key) {
            Some(queue) => {
                queue.push_back(offset);
                true
            }
            None => {
                partition.busy.insert(key, VecDeque::new());
                false
            }
        });
        partition.entries.insert(
            offset,
            Entry {
                event,
                key,
                attempts: note.attempts,
                state: State::Behind(until),
            },
        );
        !waits && self.release(number, offset, clock.now, false)
    }

    /// Lets an event come, at once or at its moment. Returns whether it can be given out now.
    fn release(&mut self, number: i32, offset: i64, now: Instant, first: bool) -> bool {
        let Some(entry) = self
            .partitions
            .get_mut(&number)
            .and_then(|p| p.entries.get_mut(&offset))
        else {
            return false;
        };
        if let State::Behind(Some(until)) | State::Delayed(until) = entry.state
            && until > now
        {
            entry.state = State::Delayed(until);
            self.due = Some(self.due.map_or(until, |due| due.min(until)));
            return false;
        }
        entry.state = State::Ready;
        if first {
            self.ready.push_front((number, offset));
        } else {
            self.ready.push_back((number, offset));
        }
        true
    }

    /// Gives out the next event, for `deadline`.
    pub(super) fn take(&mut self, now: Instant, deadline: Duration) -> Option<(Event, u32, Claim)> {
        while let Some((number, offset)) = self.ready.pop_front() {
            let Some(partition) = self
                .partitions
                .get_mut(&number)
                .filter(|partition| !partition.moving)
            else {
                continue;
            };
            let Some(entry) = partition
                .entries
                .get_mut(&offset)
                .filter(|entry| entry.state == State::Ready)
            else {
                continue;
            };
            self.next_number += 1;
            let until = now + deadline;
            entry.state = State::Leased {
                number: self.next_number,
                until,
                abandoned: false,
            };
            partition.touched = partition.touched.max(offset + 1);
            partition.dirty = true;
            self.due = Some(self.due.map_or(until, |due| due.min(until)));
            let claim = Claim {
                partition: number,
                epoch: partition.epoch,
                offset,
                number: self.next_number,
            };
            return Some((entry.event.clone(), entry.attempts.saturating_add(1), claim));
        }
        None
    }

    /// The event was handled. Returns whether another one of its key can be given out now.
    pub(super) fn ack(&mut self, claim: Claim, now: Instant) -> Result<bool, Lost> {
        let partition = self.partition(claim)?;
        partition.leased(claim)?;
        partition.dirty = true;
        let Some(entry) = partition.entries.remove(&claim.offset) else {
            return Err(Lost);
        };
        let mut next = None;
        if let Some(key) = entry.key {
            next = partition.busy.get_mut(&key).and_then(VecDeque::pop_front);
            if next.is_none() {
                partition.busy.remove(&key);
            }
        }
        self.held -= 1;
        self.held_bytes -= entry.event.size();
        Ok(next.is_some_and(|next| self.release(claim.partition, next, now, false)))
    }

    /// The event comes back. Returns whether at once.
    pub(super) fn nack(&mut self, claim: Claim, how: Redelivery, now: Instant) -> Result<bool, Lost> {
        let partition = self.partition(claim)?;
        partition.dirty = true;
        let entry = partition.leased(claim)?;
        let pause = match how {
            Redelivery::After(pause) => {
                entry.attempts = entry.attempts.saturating_add(1);
                pause
            }
            Redelivery::Release => Duration::ZERO,
        };
        // A pause of ages is one of a year: the sum must not overflow.
        entry.state = State::Delayed(now + pause.min(Duration::from_secs(365 * 24 * 3600)));
        Ok(self.release(claim.partition, claim.offset, now, true))
    }

    /// Starts the deadline anew.
    pub(super) fn extend(&mut self, claim: Claim, now: Instant, deadline: Duration) -> Result<(), Lost> {
        let partition = self.partition(claim)?;
        let entry = partition.leased(claim)?;
        entry.state = State::Leased {
            number: claim.number,
            until: now + deadline,
            abandoned: false,
        };
        partition.dirty = true; // whoever takes over must wait as long
        Ok(())
    }

    /// Nobody can settle this delivery any more: its handle is gone.
    pub(super) fn abandon(&mut self, claim: Claim) {
        if let Ok(entry) = self
            .partition(claim)
            .and_then(|partition| partition.leased(claim))
            && let State::Leased { abandoned, .. } = &mut entry.state
        {
            *abandoned = true;
        }
    }

    fn partition(&mut self, claim: Claim) -> Result<&mut Partition, Lost> {
        let partition = self.partitions.get_mut(&claim.partition);
        partition
            .filter(|partition| partition.epoch == claim.epoch)
            .ok_or(Lost)
    }

    /// Brings back what is due. Returns whether there is more to give out.
    pub(super) fn return_due(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let (mut next, mut back) = (None, false);
        for (number, partition) in &mut self.partitions {
            // In reverse, as each goes to the front.
            for (offset, entry) in partition.entries.iter_mut().rev() {
                let until = match entry.state {
                    State::Leased { until, .. } | State::Delayed(until) => until,
                    State::Ready | State::Behind(_) => continue,
                };
                if until > now {
                    next = Some(next.map_or(until, |next: Instant| next.min(until)));
                    continue;
                }
                if matches!(entry.state, State::Leased { .. }) {
                    entry.attempts = entry.attempts.saturating_add(1);
                    partition.dirty = true;
                }
                entry.state = State::Ready;
                self.ready.push_front((*number, *offset));
                back = true;
            }
        }
        self.due = next;
        back
    }

    /// Whether deliveries are out that somebody may still settle, of these partitions or of all.
    pub(super) fn is_out(&self, of: Option<&[i32]>, now: Instant) -> bool {
        self.partitions
            .iter()
            .filter(|(number, _)| of.is_none_or(|of| of.contains(number)))
            .flat_map(|(_, partition)| partition.entries.values())
            .any(|entry| matches!(entry.state, State::Leased { until, abandoned: false, .. } if until > now))
    }

    /// What is to be committed of the partitions with news, or of these whether they have news or not.
    pub(super) fn positions(&mut self, of: Option<&[i32]>, clock: Clock) -> Vec<Position> {
        let mut all = Vec::new();
        for (number, partition) in &mut self.partitions {
            if of.map_or(partition.dirty, |of| of.contains(number)) {
                partition.dirty = false;
                all.push(partition.committed(*number, clock));
            }
        }
        all
    }

    /// A commit of this partition failed.
    pub(super) fn commit_again(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.dirty = true;
        }
    }

    /// Owns nothing any more.
    pub(super) fn clear(&mut self) {
        self.partitions.clear();
        self.ready.clear();
        (self.held, self.held_bytes, self.due) = (0, 0, None);
    }
}

impl Partition {
    /// The entry of a delivery that is still out under this claim.
    fn leased(&mut self, claim: Claim) -> Result<&mut Entry, Lost> {
        let entry = self.entries.get_mut(&claim.offset);
        entry
            .filter(|entry| matches!(entry.state, State::Leased { number, .. } if number == claim.number))
            .ok_or(Lost)
    }

    fn committed(&self, partition: i32, clock: Clock) -> Position {
        let low = self.entries.keys().next().copied().unwrap_or(self.position);
        let noted = self.entries.iter().map(|(offset, entry)| {
            let (attempts, until) = match entry.state {
                // Whoever takes over lets the deadline pass first; then this attempt has failed.
                State::Leased { until, .. } => (entry.attempts.saturating_add(1), Some(until)),
                State::Delayed(until) => (entry.attempts, Some(until)),
                State::Behind(until) => (entry.attempts, until),
                State::Ready => (entry.attempts, None),
            };
            let not_before = until.map_or(0, |until| clock.millis(until));
            (*offset, Note { attempts, not_before })
        });
        let known = self
            .known
            .range(self.position..)
            .map(|(offset, note)| (*offset, *note));
        let notes = notes::encode(low, self.touched.max(low), noted.chain(known));
        Position {
            partition,
            offset: low,
            notes,
        }
    }
}

/// One moment on both clocks: this process's own, and the one all processes share as well as they can.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) millis: u64,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self {
            now: Instant::now(),
            millis: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default(),
        }
    }

    /// The moment on this process's clock, if it is still to come.
    fn instant(self, millis: u64) -> Option<Instant> {
        let wait = millis.checked_sub(self.millis).filter(|wait| *wait > 0)?;
        self.now.checked_add(Duration::from_millis(wait))
    }

    /// The moment on the shared clock.
    fn millis(self, at: Instant) -> u64 {
        let wait = at.saturating_duration_since(self.now).as_millis();
        self.millis
            .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}
