//! The cache port: what an adapter implements, and the contract the conformance suite checks.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// What a cache can do, as plain data. Every claim is tested in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Capabilities {
    /// The smallest step of a time to live.
    pub ttl_resolution: Duration,
    /// The largest value, in bytes.
    pub max_value: usize,
    /// Whether several processes see the same entries.
    pub shared: bool,
}

/// When a set takes effect.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// Only when there is no live entry.
    IfAbsent,
    /// Only when there is a live entry.
    IfPresent,
}

/// How to set an entry. There is no default time to live: an entry that lives for ever does so on purpose.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOptions {
    /// How long the entry lives; `None` is for ever. Zero is refused.
    pub ttl: Option<Duration>,
    /// When the set takes effect.
    pub condition: Condition,
}

impl SetOptions {
    /// An entry that lives for `ttl`.
    pub const fn ttl(ttl: Duration) -> Self {
        Self {
            ttl: Some(ttl),
            condition: Condition::Always,
        }
    }

    /// An entry that lives until it is deleted or evicted.
    pub const fn no_expiry() -> Self {
        Self {
            ttl: None,
            condition: Condition::Always,
        }
    }

    /// Makes the set conditional.
    pub const fn when(self, condition: Condition) -> Self {
        Self { condition, ..self }
    }
}

/// A cache.
///
/// # Behaviour
/// - An entry whose time has passed reads as absent, at once and everywhere.
/// - A miss is `None`, never an error; a server that cannot be reached is `Temporary`, never a miss.
/// - Keys are 1 to 1024 bytes of UTF-8 without control characters; anything else is `InvalidInput` (see [`super::key`]).
/// - Entries may vanish early when the cache is full.
/// - Every method is cancel-safe; a call dropped midway may have applied.
/// - Every method after [`Cache::close`] answers `Permanent`/`Closed`; a second `close` is `Ok`.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync + 'static {
    /// What this cache can do.
    fn capabilities(&self) -> Capabilities;

    /// The value of `key`, or `None` when there is none.
    ///
    /// # Errors
    /// `InvalidInput` for a bad key; `InvalidInput`/`FailedPrecondition` when somebody else keeps something there that is no
    /// value of a cache.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Sets `key`. Returns whether the condition held and the value was set.
    ///
    /// # Errors
    /// `InvalidInput` for a bad key or a zero time to live, `InvalidInput`/`TooLarge` for a value over
    /// [`Capabilities::max_value`].
    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool>;

    /// Deletes `key`. Returns whether there was a live entry; deleting nothing is no error.
    async fn delete(&self, key: &str) -> Result<bool>;

    /// Whether `key` has a live entry.
    async fn exists(&self, key: &str) -> Result<bool>;

    /// Adds `delta` to the decimal integer stored at `key`, atomically, and returns the sum. An absent key counts as 0
    /// and then lives for `ttl`; the time to live of a present key is not touched.
    ///
    /// # Errors
    /// `InvalidInput` when the stored value is not a decimal `i64` or the sum overflows; the value stays.
    async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64>;

    /// Whether the cache answers.
    async fn ping(&self) -> Result<()>;

    /// Closes the connections. Idempotent.
    async fn close(&self) -> Result<()>;
}

const _: fn(&dyn Cache) = |_| ();
