//! What has been fetched and not yet started, with at most one event of a key running.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::event::{Acker, Delivery};

/// Fetched deliveries. Events of one key run one after another, in the order they were fetched.
#[derive(Debug, Default)]
pub(super) struct Feed {
    ready: VecDeque<Delivery>,
    /// Keys that are ready or running, with the deliveries that wait behind them.
    busy: HashMap<Arc<str>, VecDeque<Delivery>, foldhash::fast::RandomState>,
}

impl Feed {
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

    /// Takes a delivery to run. Its key is busy until [`Feed::finish`].
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        self.ready.pop_front()
    }

    /// The running event of `key` has ended: the next one of that key, if any, which is then running.
    pub(super) fn finish(&mut self, key: &Arc<str>) -> Option<Delivery> {
        let next = self.busy.get_mut(key).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.busy.remove(key);
        }
        next
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The handles of everything that waits.
    pub(super) fn ackers(&self) -> Vec<Arc<dyn Acker>> {
        let waiting = self.busy.values().flatten();
        self.ready
            .iter()
            .chain(waiting)
            .map(|delivery| Arc::clone(delivery.acker()))
            .collect()
    }

    /// Everything that waits, to be handed back.
    pub(super) fn take_all(&mut self) -> Vec<Delivery> {
        let mut all: Vec<_> = self.ready.drain(..).collect();
        all.extend(self.busy.drain().flat_map(|(_, waiting)| waiting));
        all
    }
}
