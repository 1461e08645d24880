//! Members that do not take what they have fetched.

use std::{collections::HashSet, time::Duration};

use cqi_core::event::{EventBus, StartAt};
use cqi_testkit::fixture::{self, Kind as Fixture};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LIMIT, connect, event, next, number, subscription, topic};

#[tokio::test]
async fn a_slow_member_keeps_nothing_it_has_not_taken() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (slow, other, topic) = (connect(server).await, connect(server).await, topic());
    let wanted = subscription(&topic).with_ack_deadline(Duration::from_secs(3));
    let mut slowly = slow.subscribe(wanted.clone()).await.unwrap();
    let mut quickly = other.subscribe(wanted).await.unwrap();
    // The slow one has asked for ten, and takes one.
    assert!(
        timeout(Duration::from_millis(100), slowly.next(10))
            .await
            .is_err()
    );
    for n in 0..10 {
        slow.publish(event(&topic, n)).await.unwrap();
    }
    let mut taken = timeout(LIMIT, slowly.next(1)).await.unwrap().unwrap().unwrap();
    let held = taken.pop().unwrap();
    let start = Instant::now();
    let mut seen = HashSet::from([number(&held)]);
    while seen.len() < 10 {
        held.extend().await.unwrap();
        for delivery in next(&mut *quickly, &mut 0).await {
            assert_eq!(delivery.attempt(), 1, "what nobody tried counts as no attempt");
            seen.insert(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "only after the ack deadline: {:?}",
        start.elapsed()
    );
    held.ack().await.unwrap();
}

/// A member that stops now and then finds that what it had fetched was handed back meanwhile. It is not to be given what came
/// later first.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_back_is_not_overtaken() {
    const EVENTS: usize = 6_000;
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let events = (0..EVENTS).map(|n| event(&topic, n)).collect();
    for result in bus.publish_batch(events).await {
        result.unwrap();
    }
    let wanted = subscription(&topic)
        .with_start_at(StartAt::Oldest)
        .with_ack_deadline(Duration::from_millis(600));
    let mut deliveries = bus.subscribe(wanted).await.unwrap();
    let (mut seen, mut newest) = (HashSet::new(), 0);
    while seen.len() < EVENTS {
        for delivery in next(&mut *deliveries, &mut 0).await {
            let number = number(&delivery);
            assert!(
                delivery.attempt() > 1 || number >= newest,
                "{number} comes after {newest} as if for the first time"
            );
            newest = newest.max(number);
            if delivery.ack().await.is_ok() && seen.insert(number) && number.is_multiple_of(200) {
                // Longer than it may keep what it has not taken, and shorter than its deadline.
                sleep(Duration::from_millis(200 + (number / 200) as u64)).await;
            }
        }
    }
}
