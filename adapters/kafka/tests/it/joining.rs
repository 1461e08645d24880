//! Joining a group of a broker with Kafka's own settings: the other tests' broker does not wait for further members.

use std::sync::Arc;

use cqi_core::{
    Result,
    event::{Deliveries, EventBus, GuardedBus, Subscription},
    name::{Group, topic_name},
    policy::Policy,
};
use cqi_kafka::KafkaBus;
use cqi_testkit::{
    fixture::{self, Kind, Options},
    unique,
};

use crate::support::options;

/// As services do it. A new group waits 3 s for further members, and as long again when one comes.
#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_in_a_new_group_join_it() {
    let waits = Options::new().line("group.initial.rebalance.delay.ms=3000");
    let Some(server) = fixture::require_own(Kind::Kafka, &waits) else {
        return;
    };
    let topic = topic_name(&unique("topic")).unwrap();
    let group = Group::parse(&unique("group")).unwrap();
    let join = async || -> Result<(GuardedBus, Box<dyn Deliveries>)> {
        let bus = Arc::new(KafkaBus::connect(options(&server)).await?);
        let bus = GuardedBus::new(bus, Policy::default());
        let member = bus
            .subscribe(Subscription::new(topic.clone(), group.clone()))
            .await?;
        Ok((bus, member))
    };
    let (one, other) = tokio::join!(join(), join());
    for joined in [one, other] {
        let (bus, member) = joined.unwrap();
        drop(member);
        bus.close().await.unwrap();
    }
}
