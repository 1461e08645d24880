//! The five ports with faults: decorators around any adapter, most often the in-memory default.
//!
//! Without a planned fault a decorator changes nothing; the conformance suites run through each of them. Every operation
//! is logged.
//!
//! ```
//! use std::sync::Arc;
//! use cqi_core::{Error, cache::{Cache, MemoryCache, SetOptions}};
//! use cqi_testkit::faulty::{FaultyCache, Faults};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let faults = Faults::default();
//! let cache = FaultyCache::new(Arc::new(MemoryCache::default()), faults.clone());
//!
//! faults.fail_next("get", Error::temporary("connection reset"));
//! assert!(cache.get("a").await.unwrap_err().is_temporary());
//! assert!(cache.get("a").await.unwrap().is_none());
//!
//! // The set happens, yet its caller sees an error and cannot know.
//! faults.fail_after_applying("set", Error::temporary("answer lost"));
//! let error = cache.set("a", "1".into(), SetOptions::no_expiry()).await.unwrap_err();
//! assert!(error.may_have_applied());
//! assert!(cache.exists("a").await.unwrap());
//!
//! let names: Vec<_> = faults.log().iter().map(|operation| operation.name).collect();
//! assert_eq!(names, ["get", "get", "set", "exists"]);
//! # }
//! ```

mod bus;
mod cache;
mod checker;
mod database;
mod faults;
mod registry;

pub use self::{
    bus::FaultyBus,
    cache::FaultyCache,
    checker::FaultyChecker,
    database::FaultyDatabase,
    faults::{Ended, Faults, Operation},
    registry::FaultyRegistry,
};
