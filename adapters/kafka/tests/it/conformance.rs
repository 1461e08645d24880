//! The whole suite of the event bus.
//!
//! BUS-25, ML-MSG-10, INT-4, TST-6: the same cases, unchanged, on every adapter; what one lacks is declared.

use std::sync::Arc;

use cqi_core::{Result, event::EventBus};
use cqi_kafka::KafkaBus;
use cqi_testkit::{
    conformance::{Profile, event_bus::EventBusHarness},
    fixture::{self, Kind},
};

use crate::support::options;

struct Kafka;

#[async_trait::async_trait]
impl EventBusHarness for Kafka {
    async fn connect(&self) -> Result<Arc<dyn EventBus>> {
        let server = fixture::shared(Kind::Kafka).expect("checked by `missing`");
        Ok(Arc::new(KafkaBus::connect(options(server)).await?))
    }

    fn adapter(&self) -> &'static str {
        "Kafka"
    }

    fn profile(&self) -> Profile {
        // Members take half a second of silence for the end; a busy machine may need as long.
        Profile::real().with_quiet(std::time::Duration::from_secs(1))
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Kafka)
    }
}

cqi_testkit::event_bus_suite!(Kafka, lacks: [dedup]);
