//! One consumer group of one topic: what it has in flight, what comes back, and which keys are busy.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::log::Log;
use crate::{
    Code, Error, Result,
    event::{Acker, Delivery, Event, Lease, Redelivery, lock},
    policy::later,
};

/// A consumer group. Members share it.
#[derive(Debug)]
pub(super) struct GroupState {
    log: Arc<Log>,
    index: usize,
    capacity: usize,
    state: Mutex<State>,
    wake: Notify,
    /// Members that wait.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// What can be delivered before the log is read on, in order of sequence.
    ready: VecDeque<Entry>,
    /// What comes back after a pause.
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// What members have, by slot. Freed slots are used again.
    leases: Vec<Option<Leased>>,
    free: Vec<usize>,
    /// Keys that have an event in flight or coming back, with the events that wait behind it.
    busy: HashMap<Arc<str>, VecDeque<Entry>, foldhash::fast::RandomState>,
    /// Events read from the log and not yet acknowledged, wherever they are.
    held: usize,
    /// Tells a slot's owners apart; it begins anew after four billion leases.
    next_lease: u32,
    /// No lease ends before this.
    next_expiry: Option<Instant>,
    /// Reused between reads.
    read: Vec<(u64, Event)>,
}

/// An event on its way through the group.
#[derive(Debug)]
struct Entry {
    sequence: u64,
    /// Attempts that were made and counted.
    attempts: u32,
    event: Event,
}

#[derive(Debug)]
struct Leased {
    /// The count, and in the lower half the slot.
    number: u64,
    deadline: Instant,
    entry: Entry,
}

#[derive(Debug)]
struct Delayed {
    due: Instant,
    entry: Entry,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.entry.sequence).cmp(&(other.due, other.entry.sequence))
    }
}

impl GroupState {
    pub(super) fn new(log: Arc<Log>, index: usize, capacity: usize) -> Self {
        Self {
            log,
            index,
            capacity,
            state: Mutex::default(),
            wake: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Wakes one waiting member, or lets the next one that waits look again.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Wakes one member if any waits: there is an event to read. Members look once more after they have begun to wait.
    pub(super) fn wake_waiting(&self) {
        if self.is_watched() {
            self.wake();
        }
    }

    /// Whether any member waits.
    pub(super) fn is_watched(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Whether there is anything to take.
    pub(super) fn has_events(&self) -> bool {
        !lock(&self.state).ready.is_empty() || self.log.has_unread(self.index)
    }

    /// Events read and not settled.
    pub(super) fn held(&self) -> usize {
        lock(&self.state).held
    }

    /// Waits until there may be something to take.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// A member begins to wait.
    pub(super) fn watch(&self) -> Watch<'_> {
        self.waiting.fetch_add(1, SeqCst);
        Watch {
            group: self,
            on: false,
        }
    }

    /// Takes up to `max` deliveries, each leased for `ack_deadline`. Without any, also says when to look again.
    pub(super) fn take(
        &self,
        max: usize,
        ack_deadline: Duration,
        acker: &Arc<dyn Acker>,
    ) -> (Vec<Delivery>, Option<Instant>) {
        let now = Instant::now();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.return_expired(now);
        state.return_due(now);
        let watched_until = state.next_expiry;
        let mut batch = Vec::new();
        let mut lease = |state: &mut State, entry: Entry| {
            let (attempt, event) = (entry.attempts + 1, entry.event.clone());
            let number = state.lease(entry, later(now, ack_deadline));
            batch.push(Delivery::new(
                event,
                attempt,
                Lease::new(Arc::clone(acker), number),
            ));
            batch.len()
        };
        let mut taken = 0;
        while taken < max
            && let Some(entry) = state.ready.pop_front()
        {
            taken = lease(state, entry);
        }
        while taken < max && state.held < self.capacity {
            let mut read = std::mem::take(&mut state.read);
            let room = (max - taken).min(self.capacity - state.held);
            self.log.read(self.index, room, &mut read);
            let done = read.is_empty();
            state.held += read.len();
            for (sequence, event) in read.drain(..) {
                if let Some(entry) = state.claim_key(Entry {
                    sequence,
                    attempts: 0,
                    event,
                }) {
                    taken = lease(state, entry);
                }
            }
            state.read = read;
            if done {
                break;
            }
        }
        let look_again = match (state.next_expiry, state.delayed.peek()) {
            (Some(expiry), Some(Reverse(delayed))) => Some(expiry.min(delayed.due)),
            (expiry, delayed) => expiry.or(delayed.map(|Reverse(delayed)| delayed.due)),
        };
        let more = taken == max && (!state.ready.is_empty() || self.log.has_unread(self.index));
        let ends_earlier = state
            .next_expiry
            .is_some_and(|next| watched_until.is_none_or(|until| next < until));
        drop(guard);
        if more || ends_earlier {
            self.wake(); // another member may take the rest, or must watch over this lease
        }
        (batch, look_again)
    }

    /// The event was handled: frees its key for the next one.
    pub(super) fn ack(&self, lease: u64) -> Result<()> {
        let mut state = lock(&self.state);
        let lease = state.release(lease)?;
        let was_full = state.held == self.capacity;
        state.held -= 1;
        let mut wake = was_full;
        if let Some(key) = lease.entry.event.shared_key() {
            match state.busy.get_mut(key).map(VecDeque::pop_front) {
                Some(Some(next)) => {
                    state.push_ready(next);
                    wake = true;
                }
                Some(None) => _ = state.busy.remove(key),
                None => {}
            }
        }
        let last = state.held == 0;
        drop(state);
        if wake {
            self.wake();
        }
        if last {
            self.log.settled_last();
        }
        Ok(())
    }

    /// The event comes back. Its key stays busy, so that later events do not overtake it.
    pub(super) fn nack(&self, lease: u64, redelivery: Redelivery) -> Result<()> {
        let mut state = lock(&self.state);
        let mut entry = state.release(lease)?.entry;
        match redelivery {
            Redelivery::Release => state.push_ready(entry),
            Redelivery::After(pause) => {
                entry.attempts += 1;
                if pause.is_zero() {
                    state.push_ready(entry);
                } else {
                    state.delayed.push(Reverse(Delayed {
                        due: later(Instant::now(), pause),
                        entry,
                    }));
                }
            }
        }
        drop(state);
        self.wake();
        Ok(())
    }

    /// Starts the lease anew.
    pub(super) fn extend(&self, lease: u64, ack_deadline: Duration) -> Result<()> {
        let deadline = later(Instant::now(), ack_deadline);
        lock(&self.state).lease_mut(lease)?.deadline = deadline;
        Ok(())
    }
}

/// A member that waits, and whether it is the one that looks after leases and pauses in time. When it ends, with work or
/// cancelled, another member that waits must look after them.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    group: &'a GroupState,
    pub(super) on: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let others = self.group.waiting.fetch_sub(1, SeqCst) - 1;
        if self.on && others > 0 {
            self.group.wake();
        }
    }
}

/// Where a lease stands.
fn slot(number: u64) -> usize {
    usize::try_from(number & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

impl State {
    fn lease(&mut self, entry: Entry, deadline: Instant) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.leases.push(None);
            self.leases.len() - 1
        });
        self.next_lease = self.next_lease.wrapping_add(1);
        let number = u64::from(self.next_lease) << 32 | slot as u64;
        self.next_expiry = Some(self.next_expiry.map_or(deadline, |next| next.min(deadline)));
        self.leases[slot] = Some(Leased {
            number,
            deadline,
            entry,
        });
        number
    }

    fn lease_mut(&mut self, number: u64) -> Result<&mut Leased> {
        match self.leases.get_mut(slot(number)) {
            Some(Some(lease)) if lease.number == number => Ok(lease),
            _ => Err(
                Error::permanent("the ack deadline has passed: the delivery belongs to somebody else")
                    .with_code(Code::FailedPrecondition),
            ),
        }
    }

    fn release(&mut self, number: u64) -> Result<Leased> {
        self.lease_mut(number)?;
        let slot = slot(number);
        self.free.push(slot);
        self.leases[slot]
            .take()
            .ok_or_else(|| Error::permanent("empty lease"))
    }

    /// The entry, if its key is free (it is busy from now on); else it waits behind the one that has the key.
    fn claim_key(&mut self, entry: Entry) -> Option<Entry> {
        let Some(key) = entry.event.shared_key() else {
            return Some(entry);
        };
        if let Some(waiting) = self.busy.get_mut(key) {
            waiting.push_back(entry);
            return None;
        }
        self.busy.insert(Arc::clone(key), VecDeque::new());
        Some(entry)
    }

    fn push_ready(&mut self, entry: Entry) {
        let at = self
            .ready
            .partition_point(|other| other.sequence < entry.sequence);
        self.ready.insert(at, entry);
    }

    fn return_due(&mut self, now: Instant) {
        while let Some(Reverse(delayed)) = self.delayed.peek()
            && delayed.due <= now
            && let Some(Reverse(delayed)) = self.delayed.pop()
        {
            self.push_ready(delayed.entry);
        }
    }

    /// Takes back what members have kept past its deadline. That counts as an attempt: it may have run.
    fn return_expired(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        self.next_expiry = None;
        for slot in 0..self.leases.len() {
            match &self.leases[slot] {
                Some(lease) if lease.deadline <= now => {
                    if let Some(Leased { mut entry, .. }) = self.leases[slot].take() {
                        entry.attempts += 1;
                        self.free.push(slot);
                        self.push_ready(entry);
                    }
                }
                Some(lease) => {
                    let deadline = lease.deadline;
                    self.next_expiry = Some(self.next_expiry.map_or(deadline, |next| next.min(deadline)));
                }
                None => {}
            }
        }
    }
}
