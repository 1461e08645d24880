//! The harnesses of the in-memory defaults. Each can put something around the default: a wrapper or a liar.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    cache::{Cache, MemoryCache},
    event::{EventBus, MemoryBus},
    health::{Checker, check_fn},
};
use cqi_testkit::conformance::{
    Profile, cache::CacheHarness, checker::CheckerHarness, event_bus::EventBusHarness,
};

/// A [`MemoryBus`].
pub(crate) struct Bus {
    bus: Arc<dyn EventBus>,
    profile: Profile,
}

impl Bus {
    pub(crate) fn memory() -> Self {
        Self {
            bus: Arc::new(MemoryBus::default()),
            profile: Profile::paused(),
        }
    }

    pub(crate) fn quick(wrap: impl FnOnce(Arc<dyn EventBus>) -> Arc<dyn EventBus>) -> Self {
        Self {
            bus: wrap(Arc::new(MemoryBus::default())),
            profile: Profile::paused().quick(),
        }
    }
}

#[async_trait]
impl EventBusHarness for Bus {
    async fn connect(&self) -> Result<Arc<dyn EventBus>> {
        Ok(Arc::clone(&self.bus))
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn backlog(&self) -> Option<usize> {
        Some(4096)
    }

    fn closes_apart(&self) -> bool {
        false // clones are all the bus itself
    }
}

/// A [`MemoryCache`].
pub(crate) struct Entries {
    cache: Arc<dyn Cache>,
    profile: Profile,
}

impl Entries {
    pub(crate) fn memory() -> Self {
        Self {
            cache: Arc::new(MemoryCache::default()),
            profile: Profile::paused(),
        }
    }

    pub(crate) fn quick(wrap: impl FnOnce(Arc<dyn Cache>) -> Arc<dyn Cache>) -> Self {
        Self {
            cache: wrap(Arc::new(MemoryCache::default())),
            profile: Profile::paused().quick(),
        }
    }
}

#[async_trait]
impl CacheHarness for Entries {
    async fn connect(&self) -> Result<Arc<dyn Cache>> {
        Ok(Arc::clone(&self.cache))
    }

    fn profile(&self) -> Profile {
        self.profile
    }
}

/// A checker of an async function, over a switch.
pub(crate) struct Check {
    checker: Arc<dyn Checker>,
    up: Arc<AtomicBool>,
}

impl Check {
    pub(crate) fn function() -> Self {
        Self::quick(|checker| checker)
    }

    pub(crate) fn quick(wrap: impl FnOnce(Arc<dyn Checker>) -> Arc<dyn Checker>) -> Self {
        let up = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&up);
        let checker = check_fn("switch", move || {
            let up = seen.load(SeqCst);
            async move {
                if up {
                    Ok(())
                } else {
                    Err(Error::temporary("the switch is off"))
                }
            }
        });
        Self {
            checker: wrap(Arc::new(checker)),
            up,
        }
    }
}

#[async_trait]
impl CheckerHarness for Check {
    async fn connect(&self) -> Result<Arc<dyn Checker>> {
        Ok(Arc::clone(&self.checker))
    }

    fn profile(&self) -> Profile {
        Profile::paused()
    }

    async fn take_down(&self) -> Result<()> {
        self.up.store(false, SeqCst);
        Ok(())
    }

    async fn bring_back(&self) -> Result<()> {
        self.up.store(true, SeqCst);
        Ok(())
    }
}
