//! What has been fetched: what waits, and what runs, with at most one event of a key running.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::event::{Delivery, Lease};

/// Fetched deliveries. Events of one key run one after another, in the order they were fetched.
#[derive(Debug, Default)]
pub(super) struct Feed {
    ready: VecDeque<Delivery>,
    /// Keys that are ready or running, with the deliveries that wait behind them.
    busy: HashMap<Arc<str>, VecDeque<Delivery>, foldhash::fast::RandomState>,
    /// What each worker runs.
    running: Vec<Option<Lease>>,
}

impl Feed {
    /// An empty feed for so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            running: vec![None; workers],
            ..Self::default()
        }
    }

    /// Adds a batch. Returns how many deliveries are ready to run.
    pub(super) fn push(&mut self, batch: Vec<Delivery>) -> usize {
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
        self.runs(worker, next.as_ref());
        next
    }

    /// The worker has ended an event of `key`: the next one of that key, if any, which it then runs.
    pub(super) fn finish(&mut self, worker: usize, key: &Arc<str>) -> Option<Delivery> {
        let next = self.busy.get_mut(key).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.busy.remove(key);
        }
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
