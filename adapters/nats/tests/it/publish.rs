//! What is published, what is refused, and what other clients see.

use std::{collections::HashSet, time::Duration};

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use cqi_core::{
    Code, Kind,
    event::{Event, EventBus, StartAt, header},
    name::Topic,
};
use cqi_nats::NatsBus;
use cqi_testkit::{
    fixture::{self, Kind as Fixture},
    proxy::{Direction, Proxy},
};
use futures::StreamExt;
use tokio::time::timeout;

use crate::support::{LIMIT, connect, event, next, number, operator, options, plain, subscription, topic};

#[tokio::test]
async fn bus_15_another_client_sees_the_documented_headers() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut seen = client.subscribe(topic.as_str().to_owned()).await.unwrap();
    // Flushing is local; an answer proves that the server knows the subscription.
    let _ = client.request("nobody.listens", "".into()).await;
    let event = Event::builder(topic.clone())
        .key("BTC")
        .source("asset-registry")
        .content_type("application/json")
        .header("tenant", "a b")
        .payload("{}")
        .build()
        .unwrap();
    bus.publish(event.clone()).await.unwrap();
    let message = timeout(LIMIT, seen.next()).await.unwrap().unwrap();
    let headers = message.headers.unwrap();
    let id = event.id().to_string();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-type", topic.as_str()),
        ("ce-source", "asset-registry"),
        ("ce-partitionkey", "BTC"),
        ("content-type", "application/json"),
        ("tenant", "a b"),
    ] {
        assert_eq!(headers.get(name).unwrap().as_str(), value, "{name}");
    }
    assert_eq!(message.payload, "{}");
}

#[tokio::test]
async fn a_message_of_an_ordinary_client_is_an_event() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let (bus, topic) = (connect(server).await, topic());
    let mut deliveries = bus.subscribe(subscription(&topic)).await.unwrap();
    let client = operator(server).await;
    client
        .publish(topic.as_str().to_owned(), "plain".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "order-7");
    headers.insert("X-Tenant", "100%");
    let sent = client
        .publish_with_headers(topic.as_str().to_owned(), headers, "known".into())
        .await;
    sent.unwrap().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(next(&mut *deliveries, &mut 0).await);
    }
    let [plain, known] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!(plain.event().payload(), "plain");
    assert!(
        plain.event().id().to_string().starts_with("CQC_EVENTS-"),
        "{plain:?}"
    );
    assert_eq!(known.event().id().to_string(), "order-7");
    assert_eq!(known.event().headers().get("x-tenant"), Some("100%"));
    assert!(
        (known.event().time() - jiff::Timestamp::now())
            .get_seconds()
            .abs()
            < 60
    );
    // The same identity when it comes again.
    let id = plain.event().id().clone();
    got.remove(0)
        .nack(cqi_core::event::Redelivery::After(Duration::ZERO))
        .await
        .unwrap();
    let again = next(&mut *deliveries, &mut 0).await;
    assert_eq!(again[0].event().id(), &id);
}

#[tokio::test]
async fn the_servers_limit_counts_headers_and_nothing_is_sent_over_it() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain().line("max_payload: 65536")) else {
        return;
    };
    let (bus, topic) = (connect(&server).await, topic());
    let largest = bus.capabilities().max_payload;
    assert!(largest > 40_000 && largest < 65_536, "{largest}");
    let sized = |payload: usize, headers: usize| {
        (0..headers)
            .fold(Event::builder(topic.clone()), |event, n| {
                event.header(&format!("h{n}"), &"x".repeat(4096))
            })
            .payload(vec![0; payload])
            .build()
            .unwrap()
    };
    bus.publish(sized(largest, 2)).await.unwrap();
    for over in [sized(largest + 1, 0), sized(largest, 4), sized(0, 16)] {
        let error = bus.publish(over).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::InvalidInput, Some(Code::TooLarge)),
            "{error:?}"
        );
        assert!(!error.may_have_applied());
    }
    bus.publish(sized(1, 0)).await.unwrap(); // the connection lives
}

/// F-BUS-13, OP-22: what another producer made larger than cqi would is put aside too, and does not come again for ever.
#[tokio::test]
async fn a_message_without_room_for_headers_has_a_dead_letter() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain().line("max_payload: 65536")) else {
        return;
    };
    let (bus, topic) = (connect(&server).await, topic());
    let mut deliveries = bus.subscribe(subscription(&topic)).await.unwrap();
    let mut letters = bus.subscribe(subscription(&topic.dead_letter())).await.unwrap();
    let payload = vec![7_u8; bus.capabilities().max_payload + 10_000];
    let client = operator(&server).await;
    let sent = client
        .publish(topic.as_str().to_owned(), payload.clone().into())
        .await;
    sent.unwrap().await.unwrap();
    let event = next(&mut *deliveries, &mut 0).await.remove(0).event().clone();
    assert_eq!(event.payload(), &payload);
    let letter = event.clone().with_protocol_header(header::GROUP, "g").unwrap();
    bus.publish(letter.with_topic(topic.dead_letter())).await.unwrap();
    assert_eq!(next(&mut *letters, &mut 0).await[0].event().payload(), &payload);
    let error = bus.publish(event).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::TooLarge), "{error:?}");
}

#[tokio::test]
async fn f_bus_09_a_full_stream_is_an_error_and_never_ok() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let full = Config {
        name: "CQC_EVENTS".into(),
        subjects: vec!["cqc.events.v1.>".into()],
        max_messages: 10,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    operator(&server).await.create_stream(full).await.unwrap();
    let (bus, topic) = (connect(&server).await, topic());
    let batch = (0..14).map(|n| event(&topic, n)).collect();
    let results = bus.publish_batch(batch).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    let error = bus.publish(event(&topic, 14)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Exhausted)),
        "{error:?}"
    );
    assert!(!error.may_have_applied());
}

#[tokio::test]
async fn f_bus_17_a_deleted_stream_is_made_anew() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let (bus, topic) = (connect(&server).await, topic());
    let mut deliveries = bus.subscribe(subscription(&topic)).await.unwrap();
    bus.publish(event(&topic, 1)).await.unwrap();
    assert_eq!(number(&next(&mut *deliveries, &mut 0).await[0]), 1);
    operator(&server).await.delete_stream("CQC_EVENTS").await.unwrap();
    assert!(bus.ping().await.is_err());
    bus.publish(event(&topic, 2)).await.unwrap();
    bus.ping().await.unwrap();
    let mut errors = 0;
    assert_eq!(number(&next(&mut *deliveries, &mut errors).await[0]), 2);
    assert!(errors > 0, "the loss was not said");
    // Nor does it keep anybody from joining.
    operator(&server).await.delete_stream("CQC_EVENTS").await.unwrap();
    let mut late = bus.subscribe(subscription(&topic)).await.unwrap();
    bus.publish(event(&topic, 3)).await.unwrap();
    assert_eq!(number(&next(&mut *late, &mut 0).await[0]), 3);
}

/// A bus whose calls reach the server and get no answer, until the proxy heals.
async fn unanswered() -> Option<(Proxy, NatsBus, Topic)> {
    let server = fixture::require(Fixture::Nats)?;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let mut slow = options(&format!("nats://{}", proxy.address()));
    slow.publish_timeout = Duration::from_millis(500);
    let bus = NatsBus::connect(slow).await.unwrap();
    proxy.black_hole(Direction::Down);
    Some((proxy, bus, topic()))
}

#[tokio::test]
async fn callers_share_the_pipeline() {
    let Some((proxy, bus, topic)) = unanswered().await else {
        return;
    };
    // None waits for the answer to another: all are sent before there is any.
    let publishing = (0..64).map(|n| bus.publish(event(&topic, n)));
    for result in futures::future::join_all(publishing).await {
        assert!(result.unwrap_err().may_have_applied());
    }
    proxy.heal().await;
    let all = subscription(&topic).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(all).await.unwrap();
    let mut stored = HashSet::new();
    while stored.len() < 64 {
        stored.extend(next(&mut *deliveries, &mut 0).await.iter().map(number));
    }
    proxy.close().await;
}

#[tokio::test]
async fn f_bus_04_an_answer_that_is_cut_off_is_unknown_and_a_repeat_is_stored_once() {
    let Some((proxy, bus, topic)) = unanswered().await else {
        return;
    };
    let sent = event(&topic, 1);
    let error = bus.publish(sent.clone()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Timeout)),
        "{error:?}"
    );
    assert!(error.may_have_applied());
    proxy.heal().await;
    bus.publish(sent).await.unwrap();
    bus.publish(event(&topic, 2)).await.unwrap();
    let all = subscription(&topic).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(all).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 2 {
        numbers.extend(next(&mut *deliveries, &mut 0).await.iter().map(number));
    }
    assert_eq!(numbers, [1, 2]);
    proxy.close().await;
}

#[tokio::test]
async fn f_bus_04_a_batch_that_is_cut_off_stops_and_a_repeat_is_stored_once_and_in_order() {
    let Some((proxy, bus, topic)) = unanswered().await else {
        return;
    };
    let batch: Vec<_> = (0..600).map(|n| event(&topic, n)).collect();
    let results = timeout(LIMIT, bus.publish_batch(batch.clone())).await.unwrap();
    assert_eq!(results.len(), batch.len());
    let (sent, rest) = results.split_at(256);
    for error in sent.iter().map(|result| result.as_ref().unwrap_err()) {
        assert_eq!(
            (error.code(), error.may_have_applied()),
            (Some(Code::Timeout), true),
            "{error:?}"
        );
    }
    for error in rest.iter().map(|result| result.as_ref().unwrap_err()) {
        assert_eq!(
            (error.code(), error.may_have_applied()),
            (Some(Code::Unavailable), false),
            "{error:?}"
        );
    }
    // One that nobody waits for leaves nothing behind that the next could take for its own.
    let dropped = bus.publish_batch(vec![event(&topic, 600)]);
    assert!(timeout(Duration::from_millis(1), dropped).await.is_err());
    proxy.heal().await;
    for result in bus.publish_batch(batch).await {
        result.unwrap();
    }
    let all = subscription(&topic).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(all).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.last() != Some(&599) {
        numbers.extend(next(&mut *deliveries, &mut 0).await.iter().map(number));
    }
    numbers.retain(|n| *n < 600);
    assert!(numbers.into_iter().eq(0..600), "lost, twice or out of order");
    proxy.close().await;
}
