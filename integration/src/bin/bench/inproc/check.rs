//! Whether every group saw every message, whole and in order.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

use super::Shape;
use crate::measure::number;

/// What the groups have seen.
#[derive(Debug)]
pub(super) struct Check {
    size: usize,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    seen: AtomicUsize,
    sum: AtomicUsize,
    /// For each key, the number that comes next; empty when there is no order.
    next: Vec<AtomicUsize>,
}

impl Check {
    pub(super) fn new(shape: Shape, size: usize) -> Self {
        let keys = match shape {
            Shape {
                keys: 0,
                concurrency: 1,
                ..
            } => 1, // one after another: as if all had one key
            Shape { keys, .. } => keys,
        };
        let group = |_| Group {
            seen: AtomicUsize::new(0),
            sum: AtomicUsize::new(0),
            next: (0..keys).map(AtomicUsize::new).collect(),
        };
        Self {
            size,
            groups: (0..shape.groups).map(group).collect(),
        }
    }

    /// Notes one message, and checks its size and its place.
    pub(super) fn saw(&self, group: usize, payload: &Bytes) {
        let (number, group) = (number(payload, self.size), &self.groups[group]);
        group.seen.fetch_add(1, Relaxed);
        group.sum.fetch_add(number, Relaxed);
        if !group.next.is_empty() {
            let keys = group.next.len();
            let expected = group.next[number % keys].fetch_add(keys, Relaxed);
            assert_eq!(number, expected, "message lost, doubled or out of order");
        }
    }

    /// Checks that each group saw `total` messages, each once.
    pub(super) fn saw_all(&self, total: usize) {
        for group in &self.groups {
            assert_eq!(group.seen.load(Relaxed), total, "messages lost or doubled");
            assert_eq!(
                group.sum.load(Relaxed),
                total * (total - 1) / 2,
                "messages lost and doubled"
            );
        }
    }
}
