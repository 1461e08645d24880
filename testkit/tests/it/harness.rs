//! The harnesses of the in-memory defaults.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Result,
    event::{EventBus, MemoryBus},
};
use cqi_testkit::conformance::{Profile, event_bus::EventBusHarness};

/// Makes another thing of a port out of the honest one, for example a wrapper or a liar around it.
pub(crate) type Wrap<P> = fn(Arc<P>) -> Arc<P>;

/// One [`MemoryBus`] per harness.
pub(crate) struct MemoryBusHarness {
    bus: Arc<dyn EventBus>,
    profile: Profile,
}

impl MemoryBusHarness {
    pub(crate) fn new() -> Self {
        Self {
            bus: Arc::new(MemoryBus::default()),
            profile: Profile::paused(),
        }
    }

    pub(crate) fn wrapped(wrap: Wrap<dyn EventBus>) -> Self {
        Self {
            bus: wrap(Arc::new(MemoryBus::default())),
            profile: Profile::paused().quick(),
        }
    }
}

#[async_trait]
impl EventBusHarness for MemoryBusHarness {
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
