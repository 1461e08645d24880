//! What an adapter brings to join the suite.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Result,
    event::{Capabilities, Durability, EventBus, Order},
    name::{Group, Topic, topic_name},
};

use crate::{conformance::Profile, unique};

/// How the suite gets at an event bus.
#[async_trait]
pub trait EventBusHarness: Send + Sync + 'static {
    /// Another handle to the same broker, as if from another process. Called several times per case.
    async fn connect(&self) -> Result<Arc<dyn EventBus>>;

    /// How long and how much to test.
    fn profile(&self) -> Profile;

    /// The adapter's name in the table of guarantees. Default: none, and no evidence is kept.
    fn adapter(&self) -> &'static str {
        ""
    }

    /// Why the adapter can't be tested here, for example because its server is not installed
    /// ([`fixture::missing`](crate::fixture::missing)). Its tests are then skipped, and say so. Default: it can.
    fn missing(&self) -> Option<String> {
        None
    }

    /// A topic nobody else uses. Brokers that need topics created do it here.
    async fn topic(&self) -> Result<Topic> {
        topic_name(&unique("topic"))
    }

    /// A consumer group nobody else uses.
    fn group(&self) -> Result<Group> {
        Group::parse(&unique("group"))
    }

    /// How many unsettled events of one group the bus holds at most before `publish` waits or fails; `None` when events
    /// go to a disk whose size is the limit.
    fn backlog(&self) -> Option<usize> {
        None
    }

    /// How many duplicates per event are allowed while nothing fails.
    fn duplicate_bound(&self) -> f64 {
        0.0
    }

    /// Whether the handles of [`EventBusHarness::connect`] can be closed one by one. False for a bus in memory whose
    /// handles are all the bus itself.
    fn closes_apart(&self) -> bool {
        true
    }
}

/// The capabilities that are absent, by the names that `lacks:` uses.
pub fn lacked(capabilities: &Capabilities) -> Vec<&'static str> {
    [
        ("order", capabilities.order == Order::None),
        ("strict_order", capabilities.order != Order::PerKeyStrict),
        ("delayed_redelivery", !capabilities.delayed_redelivery),
        ("dedup", capabilities.dedup_window.is_none()),
        ("replay", !capabilities.replay),
        ("durability", capabilities.durability == Durability::Memory),
    ]
    .into_iter()
    .filter_map(|(name, absent)| absent.then_some(name))
    .collect()
}

/// What an adapter says of itself, for the table of guarantees.
pub(crate) fn described(capabilities: &Capabilities) -> Vec<(&'static str, String)> {
    let durability = match capabilities.durability {
        Durability::Memory => "until the process ends",
        Durability::ProcessCrash => "survives a killed broker",
        Durability::PowerLoss => "survives a power loss",
    };
    let order = match capabilities.order {
        Order::PerKey => "per key; a redelivery may be overtaken",
        Order::PerKeyStrict => "per key, across redeliveries too",
        Order::None => "none",
    };
    let delayed = if capabilities.delayed_redelivery {
        "yes"
    } else {
        "no"
    };
    let window = capabilities
        .dedup_window
        .map_or_else(|| "none".to_owned(), |window| format!("{window:?}"));
    let replay = if capabilities.replay { "yes" } else { "no" };
    vec![
        ("delivery", "at least once".to_owned()),
        ("durability", durability.to_owned()),
        ("order", order.to_owned()),
        ("delayed redelivery", delayed.to_owned()),
        ("deduplication window", window),
        ("largest payload", format!("{} bytes", capabilities.max_payload)),
        ("replay", replay.to_owned()),
    ]
}
