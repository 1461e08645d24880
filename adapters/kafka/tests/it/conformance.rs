//! The whole suite of the event bus.

use std::sync::Arc;

use cqi_core::{Result, event::EventBus};
use cqi_kafka::KafkaBus;
use cqi_testkit::conformance::{Profile, event_bus::EventBusHarness};

use crate::support::options;

struct Kafka;

#[async_trait::async_trait]
impl EventBusHarness for Kafka {
    async fn connect(&self) -> Result<Arc<dyn EventBus>> {
        Ok(Arc::new(KafkaBus::connect(options()).await?))
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }
}

cqi_testkit::event_bus_suite!(Kafka, lacks: [dedup]);
