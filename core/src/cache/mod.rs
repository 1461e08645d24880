//! A cache of bytes under short keys, with a time to live for each entry.

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
    key::{MAX_KEY, check_key, key},
    memory::{MemoryCache, MemoryCacheOptions},
    port::{Cache, Capabilities, Condition, SetOptions},
    read_through::{OnOutage, ReadThrough, ReadThroughOptions},
};
