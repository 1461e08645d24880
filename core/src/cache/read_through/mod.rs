//! Reading through the cache: on a miss the value is loaded once, however many ask for it.

mod flight;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;

use self::flight::{Flights, Load};
use super::{Cache, CacheExt as _, check_key};
use crate::{Code, Error, Result, event::Payload, name::shown};

/// What a read does when the cache cannot answer.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOutage {
    /// Loads the value, as for a miss. Concurrent reads of a key still share one load.
    #[default]
    Load,
    /// Fails with the cache's error, so that an outage of the cache does not become one of what is behind it.
    Fail,
}

/// How a [`ReadThrough`] works.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadThroughOptions {
    /// Share of random spread of each time to live, 0 to 1, so that entries loaded together do not expire together.
    /// Default 0.1: 90 to 110 %.
    pub jitter: f64,
    /// What a failing cache does to a read. Default: load.
    pub on_outage: OnOutage,
    /// How long one load may take. Default 30 s.
    pub load_timeout: Duration,
    /// The most loads at a time; more wait for their turn, up to `load_timeout`. At least 1. Default 1,024.
    pub max_loads: usize,
}

impl Default for ReadThroughOptions {
    fn default() -> Self {
        Self {
            jitter: 0.1,
            on_outage: OnOutage::Load,
            load_timeout: Duration::from_secs(30),
            max_loads: 1024,
        }
    }
}

/// A cache that is read through. Cheap to clone; clones share their loads. Give it a cache under a policy
/// ([`GuardedCache`](super::GuardedCache)), so that a cache that hangs does not hang its readers.
///
/// A load runs on a task of its own: a caller that is cancelled, or not polled, holds up nobody, and the load goes on
/// and is stored. Loads are coalesced within this process; n processes make at most n loads. Dropping the last clone
/// ends running loads, [`ReadThrough::close`] waits for them.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use cqi_core::{cache::{MemoryCache, ReadThrough, key}, event::Json};
///
/// # async fn load_price(symbol: &str) -> cqi_core::Result<Json<f64>> { Ok(Json(1.5)) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> cqi_core::Result<()> {
/// let cache = ReadThrough::new(Arc::new(MemoryCache::default()));
/// let ttl = Duration::from_secs(300);
/// let price = cache.get_or_load(&key("price", ["BTC"]), ttl, || load_price("BTC")).await?;
/// assert_eq!(price, Json(1.5));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ReadThrough {
    cache: Arc<dyn Cache>,
    options: ReadThroughOptions,
    flights: Arc<Flights>,
}

impl ReadThrough {
    /// Reads through `cache` with the default options.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self::with_options(cache, ReadThroughOptions::default())
    }

    /// Reads through `cache`.
    pub fn with_options(cache: Arc<dyn Cache>, options: ReadThroughOptions) -> Self {
        let flights = Arc::new(Flights::new(options.max_loads.max(1)));
        Self {
            cache,
            options,
            flights,
        }
    }

    /// The cached value of `key`, or what `loader` gives, which is then cached for about `ttl` (CCH-6).
    ///
    /// All callers of one key must ask for the same type. A loader's error goes to everybody waiting for that load,
    /// and nothing is stored. A cached value that cannot be decoded is a miss. A set that fails is logged.
    ///
    /// Cancel safety: dropping the future leaves the load running for the others and for the cache.
    ///
    /// # Errors
    /// The loader's; `Permanent`/`Panicked` when it panicked; `Temporary`/`Timeout` when it took longer than
    /// [`ReadThroughOptions::load_timeout`]; `InvalidInput` for a bad key, a zero `ttl` or a value without encoded
    /// form; the cache's error under [`OnOutage::Fail`]; `Permanent`/`Closed` after [`ReadThrough::close`].
    pub async fn get_or_load<T, F, Fut>(&self, key: &str, ttl: Duration, loader: F) -> Result<T>
    where
        T: Payload,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        check_key(key)?;
        if ttl.is_zero() {
            return Err(Error::invalid_input("cache time to live must be above zero"));
        }
        let landed = self.flights.landed();
        let missed_at = match self.cache.get_as(key).await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => Some(landed),
            Err(error) if error.is_invalid_input() || self.options.on_outage == OnOutage::Fail => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(key = shown(key), error = %error.chain(), "the cache does not answer, loading instead");
                None
            }
        };
        let limit = self.options.load_timeout;
        let load = Load {
            cache: Arc::clone(&self.cache),
            key: key.into(),
            ttl: self.spread(ttl),
            limit,
            missed_at,
        };
        let flight = timeout(limit, self.flights.join(load, loader))
            .await
            .unwrap_or_else(|_| Err(Error::timeout(limit).with_operation("cache.load")))?;
        let bytes = flight.result().await?;
        T::decode(&bytes).map_err(|error| {
            Error::permanent("callers of one cache key ask for different types")
                .with_code(Code::Undecodable)
                .with_context("key", shown(key))
                .with_source(error)
        })
    }

    /// Deletes `key` after its source has changed. A load of it that is under way may have read the old value, so it is
    /// waited for first; a load that begins later reads the new one. So once this returns, no value of before the change
    /// is in the cache by this process; other processes' loads may still store one, until its time to live ends.
    ///
    /// # Errors
    /// The cache's, and `InvalidInput` for a bad key.
    pub async fn invalidate(&self, key: &str) -> Result<()> {
        check_key(key)?;
        if let Some(flight) = self.flights.of(key) {
            // How it ends does not matter here, and a load has its own time limit.
            let _ = flight.result().await;
        }
        self.cache.delete(key).await.map(|_| ())
    }

    /// Waits until running loads have ended and been stored, each within its timeout. Later reads that would load
    /// answer `Permanent`/`Closed`. Does not close the cache. Idempotent and cancel-safe.
    pub async fn close(&self) {
        self.flights.close().await;
    }

    /// How many loads are running.
    pub fn loads(&self) -> usize {
        self.flights.len()
    }

    fn spread(&self, ttl: Duration) -> Duration {
        let jitter = self.options.jitter;
        if !(jitter > 0.0 && jitter <= 1.0) {
            return ttl;
        }
        let factor = 1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0);
        let spread = Duration::try_from_secs_f64(ttl.as_secs_f64() * factor).unwrap_or(ttl);
        // No spread makes it zero, which would be refused.
        spread.max(ttl.min(Duration::from_millis(1)))
    }
}

impl fmt::Debug for ReadThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough")
            .field("cache", &self.cache)
            .field("options", &self.options)
            .field("loads", &self.loads())
            .finish()
    }
}

#[cfg(test)]
mod tests;
