//! The event bus suite.

mod memory {
    use crate::harness::MemoryBusHarness;

    cqi_testkit::event_bus_suite!(MemoryBusHarness::new(), lacks: [dedup, replay, durability]);
}
