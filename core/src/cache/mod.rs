//! A cache of bytes under short keys, with a time to live for each entry.
//!
//! [`ReadThrough`] loads what is not there, once for all who ask, and stores it. By hand that is:
//!
//! ```
//! # use std::time::Duration;
//! # use cqi_core::{Result, cache::{Cache, CacheExt, SetOptions, key}, event::Json};
//! # async fn load(symbol: &str) -> Result<Json<f64>> { Ok(Json(1.5)) }
//! async fn price(cache: &dyn Cache, symbol: &str) -> Result<Json<f64>> {
//!     let key = key("price", [symbol]);
//!     if let Some(price) = cache.get_as(&key).await? {
//!         return Ok(price);
//!     }
//!     let price = load(symbol).await?;
//!     let five_minutes = SetOptions::ttl(Duration::from_secs(300));
//!     if let Err(error) = cache.set_as(&key, &price, five_minutes).await {
//!         tracing::warn!(%error, "not cached"); // no reason to fail the read
//!     }
//!     Ok(price)
//! }
//! ```
//!
//! An entry whose source changes is deleted in the transaction, so that a cache that is down fails the change, and once
//! more after it, since until it commits others may load the old value again:
//!
//! ```
//! # use std::sync::Arc;
//! # use cqi_core::{Result, cache::{Cache, key}, database::{Database, DatabaseExt, Executor, sql}};
//! async fn rename(db: &dyn Database, cache: Arc<dyn Cache>, id: i64, name: String) -> Result<()> {
//!     let shared = Arc::clone(&cache);
//!     db.with_transaction(|tx| Box::pin(async move {
//!         tx.execute(sql("UPDATE asset SET name = $1 WHERE id = $2").bind(name).bind(id)).await?;
//!         shared.delete(&key("asset", [id])).await
//!     })).await?;
//!     cache.delete(&key("asset", [id])).await.map(drop)
//! }
//! ```

mod checker;
mod ext;
mod guarded;
mod key;
mod memory;
mod port;
mod read_through;
#[cfg(test)]
mod testing;

pub use self::{
    checker::CacheChecker,
    ext::CacheExt,
    guarded::GuardedCache,
    key::{MAX_KEY, check_key, check_key_prefix, key},
    memory::{MemoryCache, MemoryCacheOptions},
    port::{Cache, Capabilities, Condition, SetOptions},
    read_through::{OnOutage, ReadThrough, ReadThroughOptions},
};
