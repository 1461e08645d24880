//! Cache and registry on Redis 6 or newer, single or as a cluster.
//!
//! ```no_run
//! use bytes::Bytes;
//! use cqi_core::cache::{Cache, SetOptions};
//! use cqi_redis::{RedisCache, RedisOptions};
//! # async fn example() -> cqi_core::Result<()> {
//! let cache = RedisCache::connect(RedisOptions::from_url("redis://localhost:6379/0")?).await?;
//! let ttl = std::time::Duration::from_secs(300);
//! cache.set("asset:BTC", Bytes::from("bitcoin"), SetOptions::ttl(ttl)).await?;
//! assert_eq!(cache.get("asset:BTC").await?.as_deref(), Some(&b"bitcoin"[..]));
//! # cache.close().await }
//! ```
//!
//! # Connections
//! Every handle has one connection, on which all its calls are pipelined. A connection that is lost, whose commands time
//! out three times in a row, or that does not answer a ping, is replaced; while there is none, calls fail at once with
//! `Temporary`/`Unavailable`. Nothing is repeated here: that is the policy's business.
//!
//! # URLs
//! `redis://user:password@host:6379/0`, `rediss://` for TLS; plain text that leaves this machine is warned of. Several
//! hosts (`redis://a:6379,b:6379`) or `?cluster=true` mean a cluster, which has no database but 0.

mod cache;
mod config;
mod connection;
mod error;
mod registry;
mod url;

pub use self::{
    cache::RedisCache,
    config::{RedisOptions, RedisRegistryOptions},
    registry::RedisRegistry,
};
