//! One part of the memory cache: a hash table whose buckets are also the ring of a CLOCK.

use bytes::Bytes;
use hashbrown::{HashTable, hash_table};

/// The deadline of an entry that lives until it is deleted or evicted.
pub(super) const NEVER: u64 = u64::MAX;

/// What an entry takes beside its key and value: its bucket and the headers of its two allocations, rounded up.
const OVERHEAD: usize = 128;

/// How many buckets each new entry looks at for dead ones. More than one, so that the dead never outgrow the living.
const SWEEP: usize = 2;

/// One cached value. 64 bytes: a cache line.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) value: Bytes,
    /// Nanoseconds since the cache was made, at which the entry is no more.
    pub(super) deadline: u64,
    /// Set by every use, cleared by the passing hand; the hand takes what was not used since its last pass.
    read: bool,
}

impl Entry {
    fn weight(&self) -> usize {
        self.key.len() + self.value.len() + OVERHEAD
    }
}

/// How much is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    table: HashTable<Entry>,
    bytes: usize,
    hand: usize,
    broom: usize,
}

impl Shard {
    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.table.len(),
            bytes: self.bytes,
        }
    }

    /// The live entry of `key`, marked as read. A dead one is removed.
    pub(super) fn get(&mut self, hash: u64, key: &str, now: u64) -> Option<&Entry> {
        let at = self.table.find_bucket_index(hash, |entry| *entry.key == *key)?;
        if self.table.get_bucket(at)?.deadline <= now {
            self.remove_at(at);
            return None;
        }
        let entry = self.table.get_bucket_mut(at)?;
        entry.read = true;
        Some(entry)
    }

    /// Sets the value of `key` and returns the one before, live or dead.
    pub(super) fn put(
        &mut self,
        hash: u64,
        key: &str,
        value: Bytes,
        deadline: u64,
        now: u64,
        hasher: impl Fn(&Entry) -> u64,
    ) -> Option<Bytes> {
        self.bytes += value.len();
        match self.table.entry(hash, |entry| *entry.key == *key, hasher) {
            hash_table::Entry::Occupied(mut place) => {
                let entry = place.get_mut();
                entry.deadline = deadline;
                entry.read = true;
                let old = std::mem::replace(&mut entry.value, value);
                self.bytes -= old.len();
                Some(old)
            }
            hash_table::Entry::Vacant(place) => {
                self.bytes += key.len() + OVERHEAD;
                place.insert(Entry {
                    key: key.into(),
                    value,
                    deadline,
                    read: false,
                });
                self.sweep(now);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, hash: u64, key: &str) -> Option<Entry> {
        let found = self.table.find_entry(hash, |entry| *entry.key == *key).ok()?;
        let (entry, _) = found.remove();
        self.bytes -= entry.weight();
        Some(entry)
    }

    /// Takes out one entry, a dead one or one that was not used lately, but never that of `keep`.
    pub(super) fn evict(&mut self, keep: &str, now: u64) -> Option<Entry> {
        // The first round may only clear marks; the second then finds a victim unless `keep` is alone.
        for _ in 0..2 * self.table.num_buckets() {
            let at = self.hand;
            self.hand = (at + 1) % self.table.num_buckets();
            let Some(entry) = self.table.get_bucket_mut(at) else {
                continue;
            };
            let live = entry.deadline > now;
            if live && std::mem::take(&mut entry.read) {
                continue;
            }
            if *entry.key != *keep {
                return self.remove_at(at);
            }
        }
        None
    }

    /// Removes the dead among the next few buckets, so that they go although nobody asks for them again.
    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEEP {
            let at = self.broom % self.table.num_buckets();
            self.broom = at + 1;
            if self
                .table
                .get_bucket(at)
                .is_some_and(|entry| entry.deadline <= now)
            {
                self.remove_at(at);
            }
        }
    }

    fn remove_at(&mut self, bucket: usize) -> Option<Entry> {
        let (entry, _) = self.table.get_bucket_entry(bucket).ok()?.remove();
        self.bytes -= entry.weight();
        Some(entry)
    }
}
