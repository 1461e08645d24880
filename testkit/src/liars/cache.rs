//! Caches that lie.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cqi_core::{
    Error, Result,
    cache::{Cache, Capabilities, Condition, SetOptions},
};

use super::lies;

lies! {
    /// What a cache can lie about.
    CacheLie {
        /// Entries live for ever.
        IgnoresTimeToLive => an_entry_lives_as_long_as_it_was_told,
        /// `IfAbsent` looks first and sets later.
        RacyIfAbsent => one_of_fifty_racers_wins_if_absent,
        /// `add` reads first and writes later.
        RacyAdd => concurrent_adds_lose_nothing,
        /// `add` gives a present key a new time to live.
        AddRenews => add_keeps_the_time_to_live_of_a_present_key,
        /// `add` writes over what is no number.
        AddOverwrites => add_refuses_what_is_no_number_and_keeps_the_value,
        /// A miss is an error.
        MissIsAnError => a_miss_is_none_and_no_error,
        /// A time to live of zero is for ever.
        ZeroIsForEver => a_zero_time_to_live_is_refused,
        /// Keys are not checked.
        TakesAnyKey => bad_keys_are_refused_by_every_method,
        /// Values are taken for text.
        ValuesAreText => every_byte_survives_in_a_value,
        /// Only whole seconds count, rounded down, though a finer resolution is declared.
        RoundsTimeToLive => sub_second_times_follow_the_resolution,
        /// A conditional set forgets the time to live.
        ConditionsAreForEver => a_conditional_set_gives_its_time_to_live,
        /// A time to live below what it can count is for ever.
        TinyIsForEver => the_smallest_and_the_largest_times_work,
        /// After `close` everything goes on.
        StaysOpen => close_is_idempotent_and_final,
    }
}

/// Makes a liar of an honest cache.
pub fn lying_cache(inner: Arc<dyn Cache>, lie: CacheLie) -> Arc<dyn Cache> {
    Arc::new(Liar { inner, lie })
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn Cache>,
    lie: CacheLie,
}

impl Liar {
    /// The key that is used in place of `key`.
    fn key(&self, key: &str) -> String {
        let bad = key.is_empty() || key.len() > 1024 || key.bytes().any(|b| b.is_ascii_control());
        if bad && self.lie == CacheLie::TakesAnyKey {
            "any".to_owned()
        } else {
            key.to_owned()
        }
    }
}

#[async_trait]
impl Cache for Liar {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.inner.get(&self.key(key)).await? {
            None if self.lie == CacheLie::MissIsAnError => Err(Error::not_found("cache entry", key)),
            value => Ok(value),
        }
    }

    async fn set(&self, key: &str, mut value: Bytes, mut options: SetOptions) -> Result<bool> {
        match self.lie {
            CacheLie::IgnoresTimeToLive => options.ttl = None,
            CacheLie::ZeroIsForEver if options.ttl == Some(Duration::ZERO) => options.ttl = None,
            CacheLie::RoundsTimeToLive => {
                let seconds = options.ttl.map(|ttl| Duration::from_secs(ttl.as_secs()));
                options.ttl = seconds.filter(|ttl| !ttl.is_zero());
            }
            CacheLie::ConditionsAreForEver if options.condition != Condition::Always => options.ttl = None,
            CacheLie::TinyIsForEver => options.ttl = options.ttl.filter(|ttl| ttl.as_millis() > 0),
            CacheLie::ValuesAreText => value = String::from_utf8_lossy(&value).into_owned().into(),
            CacheLie::RacyIfAbsent if options.condition == Condition::IfAbsent => {
                if self.inner.exists(key).await? {
                    return Ok(false);
                }
                tokio::task::yield_now().await;
                options.condition = Condition::Always;
            }
            _ => {}
        }
        self.inner.set(&self.key(key), value, options).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.inner.delete(&self.key(key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.inner.exists(&self.key(key)).await
    }

    async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let ever = SetOptions::no_expiry();
        match self.lie {
            CacheLie::RacyAdd => {
                let old = self.inner.get(key).await?.unwrap_or_default();
                let old: i64 = std::str::from_utf8(&old).unwrap_or_default().parse().unwrap_or(0);
                tokio::task::yield_now().await;
                self.inner
                    .set(key, (old + delta).to_string().into(), ever)
                    .await?;
                Ok(old + delta)
            }
            CacheLie::AddRenews => {
                let sum = self.inner.add(key, delta, ttl).await?;
                self.inner
                    .set(key, sum.to_string().into(), SetOptions { ttl, ..ever })
                    .await?;
                Ok(sum)
            }
            CacheLie::AddOverwrites => match self.inner.add(key, delta, ttl).await {
                Err(_) => {
                    self.inner.set(key, delta.to_string().into(), ever).await?;
                    Ok(delta)
                }
                sum => sum,
            },
            CacheLie::ZeroIsForEver => self.inner.add(key, delta, ttl.filter(|ttl| !ttl.is_zero())).await,
            _ => self.inner.add(&self.key(key), delta, ttl).await,
        }
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<()> {
        if self.lie == CacheLie::StaysOpen {
            Ok(())
        } else {
            self.inner.close().await
        }
    }
}
