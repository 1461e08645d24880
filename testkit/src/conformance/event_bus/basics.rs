//! What is published arrives, whole.

use std::{collections::HashMap, sync::Arc};

use cqi_core::event::{Deliveries, Event, EventId};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    EventBusHarness,
    kit::{Scene, noise, number, numbered, within_duplicate_bound},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq};

/// Compares all that an event carries.
pub(super) fn same(sent: &Event, got: &Event) -> Outcome {
    ensure_eq!(got.id(), sent.id(), "id");
    ensure_eq!(got.topic(), sent.topic(), "topic");
    ensure_eq!(got.key(), sent.key(), "key");
    ensure_eq!(got.time(), sent.time(), "time");
    ensure_eq!(got.source(), sent.source(), "source");
    ensure_eq!(got.content_type(), sent.content_type(), "content type");
    let sorted = |event: &Event| {
        let mut all: Vec<(String, String)> = event
            .headers()
            .iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        all.sort();
        all
    };
    ensure_eq!(sorted(got), sorted(sent), "headers");
    ensure!(
        got.payload() == sent.payload(),
        "payload of {} bytes arrived as {} bytes, changed",
        sent.payload().len(),
        got.payload().len()
    );
    Ok(())
}

/// Publishes each event and expects it back, equal in every field.
pub(super) async fn round_trip<H: EventBusHarness>(
    h: &H,
    make: impl Fn(&Scene) -> Result<Vec<Event>, Failure>,
) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    for sent in make(&scene)? {
        scene.bus.publish(sent.clone()).await?;
        let delivery = reader.one().await?;
        same(&sent, delivery.event())?;
        ensure_eq!(delivery.attempt(), 1, "attempt");
        delivery.ack().await?;
    }
    Ok(())
}

/// Id, topic, key, time, source, content type, headers and payload arrive as they were published.
pub async fn every_field_of_an_event_arrives<H: EventBusHarness>(h: &H) -> Outcome {
    round_trip(h, |scene| {
        let full = || {
            Event::builder(scene.topic.clone())
                .key("BTC")
                .time(jiff::Timestamp::constant(1_700_000_000, 123_456_789))
                .source("asset-registry")
                .content_type("application/protobuf")
                .header("tenant", "a")
                .header("X-Mixed-Case", "Value")
                .payload(noise(300))
        };
        let ours = full().build()?;
        let foreign = full().id(EventId::parse("order-7/~!{}")?).build()?;
        Ok(vec![ours, foreign])
    })
    .await
}

/// An event with neither key, source, headers nor payload arrives, and nothing is made up for it.
pub async fn an_event_without_optional_fields_arrives<H: EventBusHarness>(h: &H) -> Outcome {
    round_trip(h, |scene| Ok(vec![Event::builder(scene.topic.clone()).build()?])).await
}

/// Payloads of 0 and 1 byte, of every byte value, and of the largest size arrive unchanged.
pub async fn payloads_of_every_size_arrive<H: EventBusHarness>(h: &H) -> Outcome {
    round_trip(h, |scene| {
        let all_bytes: Vec<u8> = (0..=255).collect();
        let not_utf8 = vec![0xff, 0xfe, 0x00, b'\r', b'\n', 0xc3, 0x28];
        [Vec::new(), vec![0], all_bytes, not_utf8]
            .into_iter()
            .map(Into::into)
            .chain([noise(65_537), noise(scene.bus.capabilities().max_payload)])
            .map(|payload: bytes::Bytes| Ok(Event::builder(scene.topic.clone()).payload(payload).build()?))
            .collect()
    })
    .await
}

/// `next(max)` gives between one and `max` deliveries, and in the end all of them.
pub async fn next_gives_at_most_what_was_asked_for<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish(0..20).await?;
    // `some` checks the bounds of each batch.
    let first = reader.some(1, scene.profile.limit).await?;
    ensure_eq!(first.len(), 1, "deliveries of next(1)");
    let mut left = 19;
    for delivery in first {
        delivery.ack().await?;
    }
    while left > 0 {
        let batch = reader.some(7, scene.profile.limit).await?;
        ensure!(!batch.is_empty(), "{left} of 20 events did not come");
        left -= batch.len();
        for delivery in batch {
            delivery.ack().await?;
        }
    }
    Ok(())
}

/// Publishing to a topic that nobody has subscribed to is `Ok`.
pub async fn publishing_needs_no_subscriber<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.publish(0..3).await
}

/// 5,000 events of 50 publishers all reach a group of 50 members, with their payloads and headers, and no more
/// duplicates than the bound.
pub async fn many_publishers_many_members<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let parties = scene.profile.count(50, 10);
    let events = scene.profile.count(5_000, 500);
    let mut tasks = JoinSet::new();
    let (seen, mut all_seen) = mpsc::channel(1_000);
    for _ in 0..parties {
        let deliveries = scene.bus.subscribe(scene.subscription()).await?;
        tasks.spawn(read_until_closed(deliveries, seen.clone()));
    }
    drop(seen);
    for publisher in 0..parties {
        let (bus, topic) = (Arc::clone(&scene.bus), scene.topic.clone());
        tasks.spawn(async move {
            for n in (publisher..events).step_by(parties) {
                bus.publish(numbered(&topic, None, n)?).await?;
            }
            Ok(())
        });
    }
    let seen = collect(&mut all_seen, events, scene.profile.limit).await?;
    drop(all_seen);
    tasks.abort_all();
    within_duplicate_bound(h, &seen)
}

/// 20 topics with 100 events each, used at once: every topic's group gets its own events and no other.
pub async fn topics_do_not_mix<H: EventBusHarness>(h: &H) -> Outcome {
    let bus = h.connect().await?;
    let profile = h.profile();
    let (topics, events) = (profile.count(20, 10), profile.count(100, 50));
    let mut tasks = JoinSet::new();
    for t in 0..topics {
        let scene = Scene {
            bus: Arc::clone(&bus),
            topic: h.topic().await?,
            group: h.group()?,
            profile,
        };
        let mut reader = scene.join().await?;
        tasks.spawn(async move {
            let own = (t * 1_000)..(t * 1_000 + events);
            scene.publish(own.clone()).await?;
            let seen = reader.read_all(own.clone()).await?;
            ensure!(
                seen.keys().all(|n| own.contains(n)),
                "topic {t} got events of another: {seen:?}"
            );
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// `ping` is `Ok` while the broker works.
pub async fn a_working_bus_answers_a_ping<H: EventBusHarness>(h: &H) -> Outcome {
    let bus = h.connect().await?;
    match timeout(h.profile().limit, bus.ping()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new("ping did not answer")),
    }
}

/// Acknowledges and reports every delivery until nobody listens.
async fn read_until_closed(mut deliveries: Box<dyn Deliveries>, seen: mpsc::Sender<usize>) -> Outcome {
    while let Some(batch) = deliveries.next(16).await {
        for delivery in batch? {
            let number = number(delivery.event())?;
            delivery.ack().await?;
            if seen.send(number).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// How often each number came, once all have come.
async fn collect(
    all_seen: &mut mpsc::Receiver<usize>,
    events: usize,
    limit: std::time::Duration,
) -> Result<HashMap<usize, usize>, Failure> {
    let mut seen = HashMap::new();
    while seen.len() < events {
        match timeout(limit, all_seen.recv()).await {
            Ok(Some(number)) => *seen.entry(number).or_default() += 1,
            _ => return Err(Failure::new(format!("{} of {events} events came", seen.len()))),
        }
    }
    Ok(seen)
}
