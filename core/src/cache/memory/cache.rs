//! The cache port on the memory cache.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{MemoryCache, nanos, shard::NEVER};
use crate::{
    Code, Error, Result,
    cache::{Cache, Capabilities, Condition, SetOptions},
};

#[async_trait]
impl Cache for MemoryCache {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ttl_resolution: Duration::from_millis(1),
            max_value: self.max_value(),
            shared: false,
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.check(key)?;
        let now = self.now();
        Ok(self.with(key, now, |shard, hash| {
            shard.get(hash, key, now).map(|entry| entry.value.clone())
        }))
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        self.check(key)?;
        check_ttl(options.ttl)?;
        if value.len() > self.max_value() {
            return Err(Error::invalid_input(format!(
                "cache value has {} bytes, at most {} are allowed",
                value.len(),
                self.max_value()
            ))
            .with_code(Code::TooLarge));
        }
        // Bytes made of a Vec allocate at their first clone. That shall be here, not in a reader holding the lock.
        drop(value.clone());
        let now = self.now();
        let deadline = deadline(now, options.ttl);
        let (set, _old) = self.with(key, now, |shard, hash| {
            let holds = match options.condition {
                Condition::Always => true,
                Condition::IfAbsent => shard.get(hash, key, now).is_none(),
                Condition::IfPresent => shard.get(hash, key, now).is_some(),
            };
            if !holds {
                return (false, Some(value));
            }
            (true, self.put(shard, hash, key, value, deadline, now))
        });
        Ok(set)
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.check(key)?;
        let now = self.now();
        let removed = self.with(key, now, |shard, hash| shard.remove(hash, key));
        Ok(removed.is_some_and(|entry| entry.deadline > now))
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.check(key)?;
        let now = self.now();
        Ok(self.with(key, now, |shard, hash| shard.get(hash, key, now).is_some()))
    }

    async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.check(key)?;
        check_ttl(ttl)?;
        let now = self.now();
        let (sum, _old) = self.with(key, now, |shard, hash| {
            let (old, deadline) = match shard.get(hash, key, now) {
                Some(entry) => (decimal(&entry.value)?, entry.deadline),
                None => (0, deadline(now, ttl)),
            };
            let sum = old
                .checked_add(delta)
                .ok_or_else(|| Error::invalid_input("cache add: the sum does not fit 64 bits"))?;
            let value = Bytes::from(sum.to_string());
            Ok::<_, Error>((sum, self.put(shard, hash, key, value, deadline, now)))
        })?;
        Ok(sum)
    }

    async fn ping(&self) -> Result<()> {
        self.check_open()
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.usage();
            let _freed_unlocked = std::mem::take(&mut *shard);
            self.count(before, shard.usage());
            drop(shard);
        }
        Ok(())
    }
}

fn check_ttl(ttl: Option<Duration>) -> Result<()> {
    if ttl == Some(Duration::ZERO) {
        return Err(Error::invalid_input(
            "cache time to live must be above zero; no time to live is for ever",
        ));
    }
    Ok(())
}

fn deadline(now: u64, ttl: Option<Duration>) -> u64 {
    ttl.map_or(NEVER, |ttl| now.saturating_add(nanos(ttl)))
}

/// Reads what [`Cache::add`] writes, and nothing that only looks like it (`+1`, `007`), as shared caches do.
fn decimal(value: &[u8]) -> Result<i64> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.parse::<i64>()
        .ok()
        .filter(|number| number.to_string() == text)
        .ok_or_else(|| Error::invalid_input("cache add: the stored value is not a decimal 64-bit integer"))
}
