//! How much a group in this process holds of events that were given out.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

/// The bytes of events that were given out and are not settled.
#[derive(Debug)]
pub(crate) struct Unsettled {
    bytes: AtomicUsize,
    most: usize,
}

impl Unsettled {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            most,
        }
    }

    /// Whether no more may be asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Acquire) >= self.most
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, AcqRel);
    }

    /// Takes bytes off; says whether more may be asked for now, and might not before.
    pub(crate) fn take_off(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_sub(bytes, AcqRel);
        before >= self.most && before - bytes < self.most
    }
}
