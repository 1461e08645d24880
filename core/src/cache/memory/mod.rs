//! The cache in this process's memory: the default, and the first layer of a service that runs alone.

mod cache;
mod shard;

use std::{
    fmt,
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use tokio::time::Instant;

use self::shard::{Shard, Usage};
use super::check_key;
use crate::{Error, Result};

/// The most parts the table is cut into; each has a lock of its own.
const MAX_SHARDS: usize = 64;
/// A part is not made for fewer entries than this.
const MIN_SHARD_ENTRIES: usize = 256;
/// Below this limit a key of full length and its value would not fit.
const MIN_BYTES: usize = 16 * 1024;

/// How much a [`MemoryCache`] holds. What comes in beyond that pushes something else out.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCacheOptions {
    /// The most entries; at least 1. Default 100,000.
    pub max_entries: usize,
    /// The most bytes of keys, values and 128 bytes for the keeping of each; at least 16 KiB. Default 64 MiB.
    /// One value may have a quarter of it.
    pub max_bytes: usize,
}

impl Default for MemoryCacheOptions {
    fn default() -> Self {
        Self {
            max_entries: 100_000,
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A cache in memory, bounded in entries and bytes (K-06).
///
/// When it is full, entries that were not used lately make room (CLOCK). Values are shared, not copied: a slice of a
/// larger buffer keeps that buffer alive, so copy a small slice before setting it. An expired entry reads as absent at
/// once; its memory is given back when it is read, when the cache is full, or as later sets pass by.
pub struct MemoryCache {
    shards: Box<[Padded]>,
    hasher: RandomState,
    epoch: Instant,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    limits: MemoryCacheOptions,
    closed: AtomicBool,
}

/// Keeps the locks of neighbours off each other's cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Padded(Mutex<Shard>);

impl Padded {
    fn lock(&self) -> MutexGuard<'_, Shard> {
        // A panic under the lock is none of a shard's own code, so its state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryCache {
    /// An empty cache. Limits below the least possible count as the least possible.
    pub fn new(options: MemoryCacheOptions) -> Self {
        let limits = MemoryCacheOptions {
            max_entries: options.max_entries.max(1),
            max_bytes: options.max_bytes.max(MIN_BYTES),
        };
        let shards = (limits.max_entries / MIN_SHARD_ENTRIES).clamp(1, MAX_SHARDS);
        let shards = 1 << shards.ilog2();
        Self {
            shards: (0..shards).map(|_| Padded::default()).collect(),
            hasher: RandomState::default(),
            epoch: Instant::now(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            limits,
            closed: AtomicBool::new(false),
        }
    }

    /// How many entries are held, expired ones that were not removed yet included.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes are held, as counted by [`MemoryCacheOptions::max_bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn max_value(&self) -> usize {
        self.limits.max_bytes / 4
    }

    fn check(&self, key: &str) -> Result<()> {
        self.check_open()?;
        check_key(key)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed("cache"));
        }
        Ok(())
    }

    /// Nanoseconds since this cache was made. Read once per call and before the lock is taken.
    fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    /// Runs `work` on the part of the table that `key` belongs to, counts what changed, and makes room if it grew.
    /// What `work` takes out it should return, so that it is freed after the lock.
    fn with<R>(&self, key: &str, now: u64, work: impl FnOnce(&mut Shard, u64) -> R) -> R {
        let hash = self.hasher.hash_one(key);
        // The table uses the lowest and the highest bits.
        #[allow(clippy::cast_possible_truncation)] // only the low bits of it are used
        let index = (hash >> 32) as usize & (self.shards.len() - 1);
        let mut shard = self.shards[index].lock();
        let before = shard.usage();
        let result = work(&mut shard, hash);
        let grew = self.count(before, shard.usage());
        drop(shard);
        if grew && self.is_over() {
            self.make_room(index, key, now);
        }
        result
    }

    /// Must be called under the shard's lock, so that nothing is counted out before it was counted in.
    fn count(&self, before: Usage, after: Usage) -> bool {
        if before.entries != after.entries {
            self.entries
                .fetch_add(after.entries.wrapping_sub(before.entries), Ordering::Relaxed);
        }
        if before.bytes != after.bytes {
            self.bytes
                .fetch_add(after.bytes.wrapping_sub(before.bytes), Ordering::Relaxed);
        }
        after.entries > before.entries || after.bytes > before.bytes
    }

    fn is_over(&self) -> bool {
        self.len() > self.limits.max_entries || self.bytes() > self.limits.max_bytes
    }

    /// Evicts from the part that grew, and from the others when that one has nothing else to give.
    fn make_room(&self, first: usize, keep: &str, now: u64) {
        for step in 0..self.shards.len() {
            let shard = &self.shards[(first + step) % self.shards.len()];
            while self.is_over() {
                let mut shard = shard.lock();
                let before = shard.usage();
                let victim = shard.evict(keep, now);
                self.count(before, shard.usage());
                drop(shard);
                if victim.is_none() {
                    break;
                }
            }
        }
    }

    fn put(
        &self,
        shard: &mut Shard,
        hash: u64,
        key: &str,
        value: Bytes,
        deadline: u64,
        now: u64,
    ) -> Option<Bytes> {
        let hasher = |entry: &shard::Entry| self.hasher.hash_one(&*entry.key);
        shard.put(hash, key, value, deadline, now, hasher)
    }
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new(MemoryCacheOptions::default())
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("entries", &self.len())
            .field("bytes", &self.bytes())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
