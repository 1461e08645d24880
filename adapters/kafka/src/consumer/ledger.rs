//! What a member of a group has in hand: which events wait, run, come back, and what may be committed.
//!
//! Per partition there is the position up to which events were fetched, and the unsettled events below it. Everything
//! below the first unsettled one may be committed; what is settled beyond it is told in the commit's notes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::BuildHasher as _,
    time::Duration,
};

use cqi_core::event::{Event, Redelivery};

pub(super) use tokio::time::Instant;

use super::{
    entries::Entries,
    moment::Clock,
    notes::{self, Note},
    partition::{Claim, Entry, Lost, Partition, Position, State},
};

/// All partitions a member owns.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    partitions: HashMap<i32, Partition, foldhash::fast::RandomState>,
    /// What can be given out, as partition and offset. What is no longer there, or no longer ready, is passed over.
    ready: VecDeque<(i32, i64)>,
    /// Unsettled events, and the bytes of their payloads and headers.
    held: usize,
    held_bytes: usize,
    next_number: u64,
    /// Nothing comes back before this.
    due: Option<Instant>,
    keys: foldhash::fast::RandomState,
    /// Events that were handled. New ones take their memory: the allocator is slow with so many that live side by side.
    spent: Vec<Event>,
}

/// A longer pause or deadline is one of a year, so that the clock reaches its end.
pub(crate) const AGES: Duration = Duration::from_secs(365 * 24 * 3600);
/// So many spent events are kept here, of at most so many bytes each, beside those that were given away.
const SPENT: usize = 256;
const SPENT_BYTES: usize = 8 * 1024;

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

    /// How many can be given out, at most.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether something is to be committed.
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
                entries: Entries::default(),
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
            let sizes = gone.entries.iter().map(|(_, entry)| entry.event.size());
            self.held_bytes -= sizes.sum::<usize>();
        }
    }

    /// Takes an event that was fetched. Returns whether there is more to give out. `clock` is asked only for an event that
    /// may have to wait.
    pub(super) fn insert(
        &mut self,
        number: i32,
        offset: i64,
        event: Event,
        clock: impl Fn() -> Clock,
    ) -> bool {
        let Some(partition) = self.partitions.get_mut(&number) else {
            return false;
        };
        if offset < partition.position {
            // The client goes back only where the log it knew is gone: the topic was made anew, or lost its end.
            tracing::warn!(
                partition = number,
                offset,
                was = partition.position,
                "the partition begins anew"
            );
            self.own(number, offset, "");
            return self.insert(number, offset, event, clock);
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
        let until = (note.not_before > 0)
            .then(|| clock().instant(note.not_before))
            .flatten();
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
        let at_once = !waits && until.is_none();
        partition.entries.push(
            offset,
            Entry {
                event,
                key,
                attempts: note.attempts,
                state: if at_once {
                    State::Ready
                } else {
                    State::Behind(until)
                },
            },
        );
        if at_once {
            self.ready.push_back((number, offset));
        }
        at_once || (!waits && self.release(number, offset, clock().now, false))
    }

    /// Lets an event come, at once or at its moment. Returns whether it can be given out now.
    fn release(&mut self, number: i32, offset: i64, now: Instant, first: bool) -> bool {
        let Some(entry) = self
            .partitions
            .get_mut(&number)
            .and_then(|p| p.entries.get_mut(offset))
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
                .get_mut(offset)
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
    pub(super) fn ack(&mut self, claim: Claim, now: impl FnOnce() -> Instant) -> Result<bool, Lost> {
        let partition = self.partition(claim)?;
        let leased = |entry: &Entry| entry.is_leased(claim);
        let entry = partition.entries.remove_if(claim.offset, leased).ok_or(Lost)?;
        partition.dirty = true;
        let mut next = None;
        if let Some(key) = entry.key {
            next = partition.busy.get_mut(&key).and_then(VecDeque::pop_front);
            if next.is_none() {
                partition.busy.remove(&key);
            }
        }
        self.held -= 1;
        let size = entry.event.size();
        self.held_bytes -= size;
        if self.spent.len() < SPENT && size <= SPENT_BYTES {
            self.spent.push(entry.event);
        }
        Ok(next.is_some_and(|next| self.release(claim.partition, next, now(), false)))
    }

    /// Gives away the events that were handled, to who has none left.
    pub(super) fn give_spent(&mut self, to: &mut Vec<Event>) {
        if to.is_empty() {
            std::mem::swap(&mut self.spent, to);
        }
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
        entry.state = State::Delayed(now + pause.min(AGES));
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
                self.ready.push_front((*number, offset));
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
            .flat_map(|(_, partition)| partition.entries.iter())
            .any(|(_, entry)| matches!(entry.state, State::Leased { until, abandoned: false, .. } if until > now))
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

    pub(super) fn partitions(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Owns nothing any more.
    pub(super) fn clear(&mut self) {
        self.partitions.clear();
        self.ready.clear();
        (self.held, self.held_bytes, self.due) = (0, 0, None);
    }
}

#[cfg(test)]
mod tests;
