//! Groups on the server, and members that are gone or mistaken.

use std::{collections::HashSet, time::Duration};

use cqi_core::{
    Code, Kind,
    event::{Event, EventBus, Redelivery, StartAt},
    name::Group,
};
use cqi_nats::NatsBus;
use cqi_testkit::fixture::{self, Kind as Fixture};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LIMIT, connect, event, next, number, operator, options, plain, subscription, topic};

fn name(subscription: &cqi_core::event::Subscription) -> String {
    format!("{}-{}", subscription.group, subscription.topic.event_type())
}

#[tokio::test]
async fn f_bus_17_a_deleted_consumer_is_made_anew_and_loses_nothing() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let wanted = subscription(&topic);
    let mut deliveries = bus.subscribe(wanted.clone()).await.unwrap();
    for n in 0..10 {
        bus.publish(event(&topic, n)).await.unwrap();
    }
    let mut seen = HashSet::new();
    let mut held = Vec::new();
    while seen.len() + held.len() < 10 {
        for delivery in next(&mut *deliveries, &mut 0).await {
            if number(&delivery) < 5 {
                seen.insert(number(&delivery));
                delivery.ack().await.unwrap();
            } else {
                held.push(delivery);
            }
        }
    }
    let stream = operator(server).await.get_stream("CQC_EVENTS").await.unwrap();
    let start = Instant::now();
    let mut errors = 0;
    let deleting = async {
        sleep(Duration::from_millis(200)).await; // while `next` waits
        stream.delete_consumer(&name(&wanted)).await.unwrap();
        bus.publish(event(&topic, 10)).await.unwrap();
    };
    let reading = async {
        while seen.len() < 11 {
            for delivery in next(&mut *deliveries, &mut errors).await {
                seen.insert(number(&delivery));
                delivery.ack().await.unwrap();
            }
        }
    };
    futures::future::join(deleting, reading).await;
    assert!(errors > 0, "the loss was not said");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "after {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_backlog_is_fetched_in_bounds() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    for result in bus
        .publish_batch((0..4_000).map(|n| event(&topic, n)).collect())
        .await
    {
        result.unwrap();
    }
    let stream = operator(server).await.get_stream("CQC_EVENTS").await.unwrap();
    // Who takes its time is sent little more than it asks for, and who does not, some more.
    for (pause, most) in [(Duration::from_millis(25), 3 * 16), (Duration::ZERO, 2 * 512)] {
        let wanted = subscription(&topic).with_start_at(StartAt::Oldest);
        let mut deliveries = bus.subscribe(wanted.clone()).await.unwrap();
        for _ in 0..20 {
            let batch = timeout(LIMIT, deliveries.next(16))
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            assert!(batch.len() <= 16);
            for delivery in batch {
                delivery.ack().await.unwrap();
            }
            let out = stream.consumer_info(name(&wanted)).await.unwrap().num_ack_pending;
            assert!(
                out <= most,
                "{out} messages are out for a member that asks for 16"
            );
            sleep(pause).await;
        }
    }
}

#[tokio::test]
async fn two_groups_never_share_a_consumer() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let topic = topic();
    let mut durable = options(server.url());
    durable.durable = "one-name".into();
    let bus = NatsBus::connect(durable).await.unwrap();
    let _first = bus.subscribe(subscription(&topic)).await.unwrap();
    let error = bus.subscribe(subscription(&topic)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Permanent, Some(Code::FailedPrecondition)),
        "{error:?}"
    );
    assert!(error.to_string().contains("another consumer group"), "{error}");
}

#[tokio::test]
async fn an_ack_deadline_that_changed_is_updated_on_the_server() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let wanted = subscription(&topic);
    for (deadline, ack_wait) in [(10, 10_500), (40, 41_000)] {
        let mut member = bus
            .subscribe(wanted.clone().with_ack_deadline(Duration::from_secs(deadline)))
            .await
            .unwrap();
        let stream = operator(server).await.get_stream("CQC_EVENTS").await.unwrap();
        let info = stream.consumer_info(name(&wanted)).await.unwrap();
        assert_eq!(info.config.ack_wait, Duration::from_millis(ack_wait));
        member.close().await.unwrap();
    }
}

#[tokio::test]
async fn f_bus_16_members_that_come_and_go_leave_one_consumer_and_no_pulls() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let (bus, topic) = (connect(&server).await, topic());
    let wanted = subscription(&topic);
    for n in 0..50 {
        let mut member = bus.subscribe(wanted.clone()).await.unwrap();
        assert!(timeout(Duration::from_millis(2), member.next(4)).await.is_err());
        if n % 2 == 0 {
            member.close().await.unwrap();
        }
    }
    let stream = operator(&server).await.get_stream("CQC_EVENTS").await.unwrap();
    let start = Instant::now();
    loop {
        let info = stream.get_info().await.unwrap();
        let waiting = stream.consumer_info(name(&wanted)).await.unwrap().num_waiting;
        if (info.state.consumer_count, waiting) == (1, 0) {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{} consumers, {waiting} pulls",
            info.state.consumer_count
        );
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn settling_can_be_confirmed() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let topic = topic();
    let mut confirming = options(server.url());
    confirming.confirm_acks = true;
    let bus = NatsBus::connect(confirming).await.unwrap();
    let wanted = subscription(&topic);
    let mut deliveries = bus.subscribe(wanted.clone()).await.unwrap();
    bus.publish(event(&topic, 1)).await.unwrap();
    let delivery = next(&mut *deliveries, &mut 0).await.pop().unwrap();
    delivery.ack().await.unwrap();
    let stream = operator(server).await.get_stream("CQC_EVENTS").await.unwrap();
    // The server has it when `ack` returns.
    assert_eq!(
        stream.consumer_info(name(&wanted)).await.unwrap().num_ack_pending,
        0
    );
    bus.publish(event(&topic, 2)).await.unwrap();
    let delivery = next(&mut *deliveries, &mut 0).await.pop().unwrap();
    stream.delete_consumer(&name(&wanted)).await.unwrap();
    let error = delivery.ack().await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}

#[tokio::test]
async fn the_dead_letters_of_two_groups_are_two() {
    // They keep their event's id, which the stream would take for duplicates.
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let mut letters = bus.subscribe(subscription(&topic.dead_letter())).await.unwrap();
    let sent = event(&topic, 1);
    bus.publish(sent.clone()).await.unwrap();
    for group in ["a", "b", "b"] {
        let group = Group::parse(group).unwrap();
        let letter = sent.clone().with_topic(topic.dead_letter());
        let letter = letter
            .with_protocol_header(cqi_core::event::header::GROUP, group.as_str())
            .unwrap();
        bus.publish(letter).await.unwrap();
    }
    let mut groups = Vec::new();
    while groups.len() < 2 {
        for letter in next(&mut *letters, &mut 0).await {
            groups.push(
                letter
                    .event()
                    .headers()
                    .get(cqi_core::event::header::GROUP)
                    .unwrap()
                    .to_owned(),
            );
            let (_, _, lease) = letter.into_parts();
            lease.ack().await.unwrap();
        }
    }
    assert_eq!(groups, ["a", "b"]);
    assert!(
        timeout(Duration::from_millis(300), letters.next(1))
            .await
            .is_err(),
        "a letter came twice"
    );
}

#[tokio::test]
async fn a_release_needs_no_word_of_who_released() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (first, second, topic) = (connect(server).await, connect(server).await, topic());
    let wanted = subscription(&topic);
    let mut one = first.subscribe(wanted.clone()).await.unwrap();
    first.publish(event(&topic, 1)).await.unwrap();
    let delivery = next(&mut *one, &mut 0).await.pop().unwrap();
    delivery.nack(Redelivery::Release).await.unwrap();
    first.close().await.unwrap();
    let mut other = second.subscribe(wanted).await.unwrap();
    let delivery = next(&mut *other, &mut 0).await.pop().unwrap();
    assert_eq!(delivery.attempt(), 1);
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn who_may_not_read_releases_is_given_events_again() {
    let wanted = plain().line(
        r#"authorization: { users: [
            { user: blind, password: x, permissions: { publish: { deny: ["$JS.API.DIRECT.GET.>"] } } } ] }"#,
    );
    let Some(server) = fixture::require_own(Fixture::Nats, &wanted) else {
        return;
    };
    let url = server.url().replace("nats://", "nats://blind:x@");
    let bus = NatsBus::connect(options(&url)).await.unwrap();
    let topic = topic();
    let mut deliveries = bus.subscribe(subscription(&topic)).await.unwrap();
    // More at once than refusals are remembered.
    let batch = (0..40).map(|n| event(&topic, n)).collect();
    for result in bus.publish_batch(batch).await {
        result.unwrap();
    }
    let mut held = Vec::new();
    while held.len() < 40 {
        held.extend(next(&mut *deliveries, &mut 0).await);
    }
    let pause = Duration::from_millis(300);
    for delivery in held {
        delivery.nack(Redelivery::After(pause)).await.unwrap();
    }
    sleep(pause * 2).await;
    let start = Instant::now();
    let mut again = 0;
    while again < 40 {
        let batch = timeout(LIMIT, deliveries.next(64)).await.unwrap().unwrap();
        for delivery in batch.unwrap() {
            assert_eq!(delivery.attempt(), 2);
            again += 1;
            delivery.ack().await.unwrap();
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "after {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_member_that_waits_for_room_is_told_of_it() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let wanted = subscription(&topic);
    let mut slow = bus.subscribe(wanted.clone()).await.unwrap();
    let mut quick = bus.subscribe(wanted).await.unwrap();
    // Keys are shared out by their hashes, of which the first is even and the other odd.
    let keyed = |key: &str, n: usize| {
        let event = Event::builder(topic.clone()).key(key).payload(n.to_string());
        event.build().unwrap()
    };
    let (slows, quicks) = ("a", "b");
    for n in 0..10 {
        bus.publish(keyed(slows, n)).await.unwrap();
    }
    let start = Instant::now();
    // It fetches what is the slow one's, until there is no room for more.
    assert!(timeout(Duration::from_millis(500), quick.next(5)).await.is_err());
    bus.publish(keyed(quicks, 10)).await.unwrap();
    let waiting = async { quick.next(5).await.unwrap().unwrap() };
    let taking = async {
        sleep(Duration::from_millis(300)).await; // while the quick one waits
        slow.next(1).await.unwrap().unwrap()
    };
    let both = futures::future::join(waiting, taking);
    let (came, _held) = timeout(LIMIT, both).await.unwrap();
    assert_eq!(number(&came[0]), 10);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "after {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_deadline_and_a_pause_without_end_are_taken() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let wanted = subscription(&topic).with_ack_deadline(Duration::MAX);
    let mut deliveries = bus.subscribe(wanted).await.unwrap();
    bus.publish(event(&topic, 0)).await.unwrap();
    let put_off = next(&mut *deliveries, &mut 0).await.pop().unwrap();
    put_off.extend().await.unwrap();
    put_off.nack(Redelivery::After(Duration::MAX)).await.unwrap();
    bus.publish(event(&topic, 1)).await.unwrap();
    let handled = next(&mut *deliveries, &mut 0).await.pop().unwrap();
    assert_eq!(number(&handled), 1, "the other one came back");
    handled.ack().await.unwrap();
}

#[tokio::test]
async fn what_is_unsettled_is_bounded_in_bytes() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let mut few = options(server.url());
    few.max_unsettled_bytes = 16 << 10;
    let (bus, topic) = (NatsBus::connect(few).await.unwrap(), topic());
    let wanted = subscription(&topic).with_ack_deadline(Duration::from_secs(4));
    let mut deliveries = bus.subscribe(wanted).await.unwrap();
    let large = |n: usize| {
        Event::builder(topic.clone())
            .payload(format!("{n:04096}"))
            .build()
    };
    let events = (0..200).map(|n| large(n).unwrap()).collect();
    for result in bus.publish_batch(events).await {
        result.unwrap();
    }
    let (mut seen, mut rounds) = (HashSet::new(), 0);
    while seen.len() < 200 {
        let first = timeout(LIMIT, deliveries.next(1)).await;
        let mut held = first.expect("there was room, and nothing came").unwrap().unwrap();
        while let Ok(batch) = timeout(Duration::from_millis(300), deliveries.next(1)).await {
            held.extend(batch.unwrap().unwrap());
            assert!(held.len() < 100, "there is no end");
        }
        rounds += 1;
        if rounds == 1 {
            continue; // what nobody can settle any more makes room too
        }
        for delivery in held {
            seen.insert(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
}
