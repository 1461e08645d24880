//! The event bus suite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{Result, event::EventBus};
use cqi_nats::NatsBus;
use cqi_testkit::conformance::{Profile, event_bus::EventBusHarness};

use crate::support::{Server, options};

struct Harness(&'static Server);

fn harness() -> Harness {
    Harness(Server::shared())
}

#[async_trait]
impl EventBusHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn EventBus>> {
        Ok(Arc::new(NatsBus::connect(options(self.0.url())).await?))
    }

    fn profile(&self) -> Profile {
        Profile::real().with_step(Duration::from_millis(500)).with_quiet(Duration::from_millis(300))
    }
}

cqi_testkit::event_bus_suite!(harness(), lacks: [strict_order]);
