//! The event bus suite.
//!
//! BUS-25, ML-MSG-10, INT-4, TST-6: the same cases, unchanged, on every adapter; what one lacks is declared.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{Result, event::EventBus};
use cqi_nats::NatsBus;
use cqi_testkit::{
    conformance::{Profile, event_bus::EventBusHarness},
    fixture::{self, Kind},
};

use crate::support::options;

struct Harness;

#[async_trait]
impl EventBusHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn EventBus>> {
        let server = fixture::shared(Kind::Nats).expect("the suite is skipped without it");
        Ok(Arc::new(NatsBus::connect(options(server.url())).await?))
    }

    fn adapter(&self) -> &'static str {
        "NATS JetStream"
    }

    fn profile(&self) -> Profile {
        Profile::real()
            .with_step(Duration::from_millis(500))
            .with_quiet(Duration::from_millis(300))
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Nats)
    }
}

cqi_testkit::event_bus_suite!(Harness, lacks: [strict_order]);
