//! The bounded log of one topic, and the cursors of its groups.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::sync::Notify;

use super::{MemoryBusOptions, group::GroupState};
use crate::{
    event::{Event, lock},
    name::Group,
};

/// One topic: publishers append, groups read.
#[derive(Debug)]
pub(super) struct Log {
    options: MemoryBusOptions,
    state: Mutex<State>,
    /// Told when events were trimmed away and publishers wait.
    room: Notify,
    waiting_publishers: AtomicUsize,
    /// Told when a group has settled its last event, if somebody waits for that.
    idle: Arc<Idle>,
}

/// Where somebody waits until every group of the bus has settled all its events.
#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) settled: Notify,
    pub(super) waiting: AtomicUsize,
}

impl Idle {
    fn tell(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.settled.notify_waiters();
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Events that some group has not read yet, with their sizes.
    events: VecDeque<(Event, usize)>,
    /// The sequence number of the first of them.
    base: u64,
    bytes: usize,
    /// Replaced when a group is added, so that a publisher can wake them after it has let go of the lock.
    groups: Arc<[Arc<GroupState>]>,
    /// For each group, the sequence number it reads next. Beside `groups`, so that trimming looks at numbers only.
    cursors: Vec<u64>,
    names: HashMap<Group, usize>,
}

impl Log {
    pub(super) fn new(options: MemoryBusOptions, idle: Arc<Idle>) -> Self {
        Self {
            options,
            state: Mutex::default(),
            room: Notify::new(),
            waiting_publishers: AtomicUsize::new(0),
            idle,
        }
    }

    /// The group of this name; a new one starts after the last event.
    pub(super) fn group(log: &Arc<Self>, name: &Group) -> Arc<GroupState> {
        let mut state = lock(&log.state);
        if let Some(index) = state.names.get(name) {
            return Arc::clone(&state.groups[*index]);
        }
        let index = state.groups.len();
        let group = Arc::new(GroupState::new(Arc::clone(log), index, log.options.capacity));
        let end = state.base + state.events.len() as u64;
        state.groups = state.groups.iter().cloned().chain([Arc::clone(&group)]).collect();
        state.cursors.push(end);
        state.names.insert(name.clone(), index);
        group
    }

    /// Appends and wakes one member of each group, or gives the event back when there is no room.
    pub(super) fn append(&self, event: Event) -> Result<(), Event> {
        let mut state = lock(&self.state);
        if state.groups.is_empty() {
            return Ok(());
        }
        let size = event.size();
        let full = state.events.len() >= self.options.capacity;
        if full || (state.bytes + size > self.options.capacity_bytes && !state.events.is_empty()) {
            return Err(event);
        }
        state.bytes += size;
        state.events.push_back((event, size));
        if state.groups.iter().any(|group| group.is_watched()) {
            let groups = Arc::clone(&state.groups);
            drop(state); // or the woken ones would wait for it
            for group in &*groups {
                group.wake_waiting();
            }
        }
        Ok(())
    }

    /// Appends as soon as there is room. Cancel-safe: the event is either in the log or not.
    pub(super) async fn append_waiting(&self, mut event: Event) {
        let _waiting = Waiting::new(&self.waiting_publishers);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable(); // before looking, so that room made in between is not missed
            match self.append(event) {
                Ok(()) => return,
                Err(back) => event = back,
            }
            room.await;
        }
    }

    /// Reads up to `max` events for the group `index` and moves its cursor. Returns them with their sequence numbers.
    pub(super) fn read(&self, index: usize, max: usize, into: &mut Vec<(u64, Event)>) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let cursor = state.cursors[index];
        let unread = usize::try_from(state.base + state.events.len() as u64 - cursor).unwrap_or(usize::MAX);
        let count = unread.min(max);
        if count == 0 {
            return;
        }
        state.cursors[index] = cursor + count as u64;
        let keep_from = state.cursors.iter().copied().min().unwrap_or(cursor);
        let mut trimmed = false;
        if state.cursors.len() == 1 {
            // Nobody else reads: the events are moved out, not shared.
            for (sequence, (event, size)) in (cursor..).zip(state.events.drain(..count)) {
                state.bytes -= size;
                into.push((sequence, event));
            }
            state.base = keep_from;
            trimmed = true;
        } else {
            let skip = state.events.len() - unread;
            into.extend(
                (cursor..).zip(
                    state
                        .events
                        .range(skip..skip + count)
                        .map(|(event, _)| event.clone()),
                ),
            );
        }
        while state.base < keep_from
            && let Some((_, size)) = state.events.pop_front()
        {
            state.bytes -= size;
            state.base += 1;
            trimmed = true;
        }
        drop(guard);
        if trimmed && self.waiting_publishers.load(SeqCst) > 0 {
            self.room.notify_waiters();
        }
    }

    /// Lets a member of each group look again.
    pub(super) fn wake_groups(&self) {
        for group in &*Arc::clone(&lock(&self.state).groups) {
            group.wake();
        }
    }

    /// Lets go of the groups: the bus is gone, and so are all members.
    pub(super) fn dissolve(&self) {
        lock(&self.state).groups = Arc::default();
    }

    /// Events that some group has not settled yet, counted once for each group.
    pub(super) fn unsettled(&self) -> u64 {
        let state = lock(&self.state);
        let end = state.base + state.events.len() as u64;
        let unread: u64 = state.cursors.iter().map(|cursor| end - cursor).sum();
        let groups = Arc::clone(&state.groups);
        drop(state); // a group that reads holds its own lock while it takes this one
        unread + groups.iter().map(|group| group.held() as u64).sum::<u64>()
    }

    /// A group has settled its last event.
    pub(super) fn settled_last(&self) {
        self.idle.tell();
    }

    /// Whether the group `index` has unread events.
    pub(super) fn has_unread(&self, index: usize) -> bool {
        let state = lock(&self.state);
        state.cursors[index] < state.base + state.events.len() as u64
    }
}

/// Counts a waiting publisher while it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
