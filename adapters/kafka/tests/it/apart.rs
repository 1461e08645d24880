//! The suite once more, with every member on a connection of its own, as if each were another process: what one bus
//! settles among its own subscriptions has to go through Kafka's group protocol here, with real rebalances.

use std::{
    panic::catch_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use cqi_core::{
    Result,
    event::{Capabilities, Deliveries, Event, EventBus, Subscription},
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::{
    conformance::{
        Profile,
        event_bus::{EventBusHarness, check},
    },
    fixture::{self, Kind},
};

use crate::support::options;

/// Connects anew for each subscription.
#[derive(Debug)]
struct Apart {
    options: KafkaOptions,
    own: KafkaBus,
    others: Mutex<Vec<KafkaBus>>,
}

#[async_trait::async_trait]
impl EventBus for Apart {
    fn capabilities(&self) -> Capabilities {
        self.own.capabilities()
    }

    async fn publish(&self, event: Event) -> Result<()> {
        self.own.publish(event).await
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        self.own.publish_batch(events).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        let bus = KafkaBus::connect(self.options.clone()).await?;
        self.others.lock().unwrap().push(bus.clone());
        bus.subscribe(subscription).await
    }

    async fn ping(&self) -> Result<()> {
        self.own.ping().await
    }

    async fn close(&self) -> Result<()> {
        let others = std::mem::take(&mut *self.others.lock().unwrap());
        for bus in others {
            bus.close().await?;
        }
        self.own.close().await
    }
}

struct Members;

#[async_trait::async_trait]
impl EventBusHarness for Members {
    async fn connect(&self) -> Result<Arc<dyn EventBus>> {
        let server = fixture::shared(Kind::Kafka).expect("checked by `missing`");
        let options = options(server);
        Ok(Arc::new(Apart {
            own: KafkaBus::connect(options.clone()).await?,
            options,
            others: Mutex::default(),
        }))
    }

    fn profile(&self) -> Profile {
        // A member's share comes once the others have heard of it, which takes seconds on a busy machine.
        Profile::real()
            .quick()
            .with_quiet(std::time::Duration::from_secs(6))
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Kafka)
    }
}

/// The cases that are about members.
const CASES: [&str; 22] = [
    "many_publishers_many_members",
    "an_acked_event_never_returns",
    "a_storm_of_nacks_loses_nothing",
    "a_released_event_returns_with_no_attempt_counted",
    "an_unsettled_event_returns_after_its_deadline",
    "extending_keeps_a_slow_delivery",
    "a_delivery_can_be_settled_after_leaving",
    "the_last_member_gets_what_vanished_members_held",
    "a_waiting_member_gets_what_others_do_not_settle",
    "order_holds_per_key_under_many_members",
    "strict_order_holds_across_a_retry",
    "strict_order_holds_across_a_lost_member",
    "members_of_a_group_share",
    "a_late_member_gets_its_share",
    "a_leaving_member_hands_over",
    "members_come_and_go_during_flow",
    "subscribing_and_leaving_many_times_loses_nothing",
    "reopened_subscriptions_go_on_where_they_were",
    "concurrency_and_keys_are_respected",
    "a_slow_handler_keeps_its_event",
    "stopping_waits_for_running_handlers",
    "handlers_cut_at_shutdown_hand_their_events_back",
];

#[test]
fn bus_18_the_cases_about_members_hold_across_processes() {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // They wait most of the time, so they run side by side.
    std::thread::scope(|scope| {
        for _ in 0..11 {
            scope.spawn(|| {
                while let Some(name) = CASES.get(next.fetch_add(1, SeqCst)) {
                    if catch_unwind(|| check(&Members, name)).is_err() {
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    assert!(failed.lock().unwrap().is_empty(), "{failed:?}");
}
