//! What has been fetched: what waits, and what runs, with at most one event of a key running.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::event::{Delivery, Lease};

/// What is pulled ahead is to be begun within this: it is kept from other members meanwhile.
const SOON: Duration = Duration::from_millis(100);

/// Fetched deliveries. Events of one key run one after another, in the order they were fetched.
#[derive(Debug, Default)]
pub(super) struct Feed {
    ready: VecDeque<Delivery>,
    /// Keys that are ready or running, with the deliveries that wait behind them.
    busy: HashMap<Arc<str>, VecDeque<Delivery>, foldhash::fast::RandomState>,
    /// What each worker runs.
    running: Vec<Option<Lease>>,
    /// How many deliveries were wanted last, and how many of them more than there were idle workers.
    wanted: usize,
    ahead: usize,
    /// Since when it is counted how many handlers end, and how many have.
    since: Option<Instant>,
    ended: usize,
}

impl Feed {
    /// An empty feed for so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            running: vec![None; workers],
            ..Self::default()
        }
    }

    /// How many deliveries to pull, now that none is ready: as many as there are idle workers, and what they all will soon
    /// have begun beyond that. So slow handlers leave to other members what they cannot begin.
    pub(super) fn wanted(&mut self, most: usize) -> usize {
        if self.ended >= self.running.len()
            && let Some(since) = self.since.take()
        {
            let ended_soon = SOON.as_micros() * self.ended as u128 / since.elapsed().as_micros().max(1);
            self.ahead = usize::try_from(ended_soon).unwrap_or(most);
        }
        let idle = self.running.iter().filter(|running| running.is_none()).count();
        self.wanted = idle.saturating_add(self.ahead).clamp(1, most.max(1));
        self.wanted
    }

    /// Adds a batch. Returns how many deliveries are ready to run.
    pub(super) fn push(&mut self, batch: Vec<Delivery>) -> usize {
        // While fewer come than are wanted, the clock need not be asked.
        if self.since.is_none() && batch.len() >= self.wanted {
            (self.since, self.ended) = (Some(Instant::now()), 0);
        }
        for delivery in batch {
            match delivery.event().shared_key() {
                Some(key) => {
                    if let Some(waiting) = self.busy.get_mut(key) {
                        waiting.push_back(delivery);
                        continue;
                    }
                    self.busy.insert(Arc::clone(key), VecDeque::new());
                    self.ready.push_back(delivery);
                }
                None => self.ready.push_back(delivery),
            }
        }
        self.ready.len()
    }

    /// The worker, which has ended what it ran, takes a delivery to run. Its key is busy until [`Feed::finish`].
    pub(super) fn pop(&mut self, worker: usize) -> Option<Delivery> {
        let next = self.ready.pop_front();
        self.ended += usize::from(self.running[worker].is_some());
        self.runs(worker, next.as_ref());
        next
    }

    /// The worker has ended an event of `key`: the next one of that key, if any, which it then runs.
    pub(super) fn finish(&mut self, worker: usize, key: &Arc<str>) -> Option<Delivery> {
        let next = self.busy.get_mut(key).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.busy.remove(key);
        }
        self.ended += 1;
        self.runs(worker, next.as_ref());
        next
    }

    /// The worker runs this, or nothing.
    pub(super) fn runs(&mut self, worker: usize, delivery: Option<&Delivery>) {
        self.running[worker] = delivery.map(|delivery| delivery.lease().clone());
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The leases of everything that waits or runs.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let waiting = self.busy.values().flatten();
        self.ready
            .iter()
            .chain(waiting)
            .map(Delivery::lease)
            .chain(self.running.iter().flatten())
            .cloned()
            .collect()
    }

    /// Takes out what waits under these leases.
    pub(super) fn take(&mut self, leases: &[Lease]) -> VecDeque<Delivery> {
        let mut taken = VecDeque::new();
        for waiting in self.busy.values_mut() {
            taken.append(&mut take_from(waiting, leases));
        }
        for delivery in take_from(&mut self.ready, leases) {
            if let Some(key) = delivery.event().shared_key() {
                match self.busy.get_mut(key).and_then(VecDeque::pop_front) {
                    Some(next) => self.ready.push_back(next),
                    None => _ = self.busy.remove(key),
                }
            }
            taken.push_back(delivery);
        }
        taken
    }

    /// The leases of what runs, whose workers were stopped.
    pub(super) fn cut(&mut self) -> Vec<Lease> {
        self.running.iter_mut().filter_map(Option::take).collect()
    }

    /// Everything that waits, to be handed back.
    pub(super) fn take_all(&mut self) -> Vec<Delivery> {
        let mut all: Vec<_> = self.ready.drain(..).collect();
        all.extend(self.busy.drain().flat_map(|(_, waiting)| waiting));
        all
    }
}

/// What of `waiting` is under these leases.
fn take_from(waiting: &mut VecDeque<Delivery>, leases: &[Lease]) -> VecDeque<Delivery> {
    let is_taken = |delivery: &Delivery| leases.iter().any(|lease| lease.is_same(delivery.lease()));
    let (taken, rest) = mem::take(waiting).into_iter().partition(is_taken);
    *waiting = rest;
    taken
}
