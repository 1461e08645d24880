//! The conformance suites: what every adapter of a port must do.
//!
//! One case is one documented function in a file of its theme. A suite macro expands to one `#[test]` per case, so names,
//! filters and counts work as for any test:
//!
//! ```
//! use std::sync::Arc;
//! use cqi_core::{Result, event::{EventBus, MemoryBus}};
//! use cqi_testkit::conformance::{Profile, event_bus::EventBusHarness};
//!
//! /// One bus per harness; a harness of a server would connect anew each time.
//! #[derive(Default)]
//! struct MyHarness(MemoryBus);
//!
//! #[async_trait::async_trait]
//! impl EventBusHarness for MyHarness {
//!     async fn connect(&self) -> Result<Arc<dyn EventBus>> {
//!         Ok(Arc::new(self.0.clone()))
//!     }
//!
//!     fn profile(&self) -> Profile {
//!         Profile::paused()
//!     }
//!
//!     fn closes_apart(&self) -> bool {
//!         false
//!     }
//! }
//!
//! cqi_testkit::event_bus_suite!(MyHarness::default(), lacks: [dedup, replay, durability]);
//! # fn main() {}
//! ```
//!
//! An adapter implements the harness trait of its port, [`event_bus::EventBusHarness`] for example, and lists what it
//! lacks. What it lacks is tested as well: the list must equal what the port's `capabilities()` says, and an absent
//! capability must refuse rather than half work.
//!
//! A case returns an [`Outcome`], so that a suite can also be run as data ([`run`]), for reports and against
//! [liars](crate::liars).

mod case;
pub(crate) mod evidence;
mod failure;
mod profile;
mod suite;

pub mod cache;
pub mod checker;
pub mod database;
pub mod event_bus;
pub mod registry;

pub(crate) use self::case::cut;
pub(crate) use self::failure::{ensure, ensure_eq, refused};
pub use self::{
    case::{Case, assert_passed, run},
    failure::{Failure, Outcome},
    profile::{Clock, Profile},
};

/// Compares what an adapter says it lacks with what its capabilities say.
fn same_lacks(said: &[&str], true_lacks: &[&str]) -> Outcome {
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names
    };
    ensure_eq!(
        sorted(said),
        sorted(true_lacks),
        "the suite's `lacks` list, against the port's capabilities"
    );
    Ok(())
}
