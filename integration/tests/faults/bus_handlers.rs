//! Handlers that fail and panic, members that come and go, ids that come again: on the brokers themselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqi_core::{
    Error,
    event::{ConsumeOptions, Message, header},
    policy::Retry,
};
use cqi_testkit::{fixture, unique};
use tokio::{task::block_in_place, time::Instant};

use crate::harness::{
    Broker, Figures, Findings, Load, Log, Member, Outcome, Seen, Tune, event, finish, on_each_broker,
    options, read_all, scale, topic,
};

const QUIET: Duration = Duration::from_secs(20);

on_each_broker! {
    poison_and_panics => f_bus_13_14_nats_poison_and_panics, f_bus_13_14_kafka_poison_and_panics;
    churn => f_bus_16_nats_members_come_and_go, f_bus_16_kafka_members_come_and_go;
}

/// One of 1,000 always fails, one of 100 panics at its first attempt.
async fn poison_and_panics(broker: Broker) {
    let Some(server) = block_in_place(|| fixture::require(broker.kind())) else {
        return;
    };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let load = Load {
        publishers: 8,
        events: 2_000,
        insist: true,
        ..Load::default()
    };
    finish(load.start(&bus, &topic, &log), &log).await;
    let mut ids: Vec<String> = log.entries().into_keys().collect();
    ids.sort();
    let poisoned: Vec<String> = ids.iter().step_by(1_000).cloned().collect();
    let panicking: Vec<String> = ids.iter().skip(50).step_by(100).cloned().collect();
    let retry = Retry {
        attempts: 3,
        initial: Duration::from_millis(20),
        ..Retry::default()
    };
    let attempts: Arc<Mutex<HashMap<String, Vec<u32>>>> = Arc::default();
    let handle = {
        let (seen, attempts) = (seen.clone(), Arc::clone(&attempts));
        let (poisoned, panicking) = (poisoned.clone(), panicking.clone());
        move |message: Message| {
            let id = message.event.id().to_string();
            let result = if poisoned.contains(&id) {
                attempts
                    .lock()
                    .unwrap()
                    .entry(id)
                    .or_default()
                    .push(message.attempt);
                Err(Error::temporary("this one never works"))
            } else {
                let panics = panicking.contains(&id) && message.attempt == 1;
                assert!(!panics, "a handler of a test panics on purpose");
                seen.note(&message);
                Ok(())
            };
            std::future::ready(result)
        }
    };
    let group = unique("group");
    let member = Member::join(&bus, &topic, &group, options().with_retry(retry), handle).await;
    let healthy = load.events - poisoned.len();
    seen.reaches(healthy, QUIET).await;
    let letters = read_letters(&bus, &topic.dead_letter(), poisoned.len()).await;
    member.stop().await.unwrap();

    // What is dead-lettered was acknowledged: to the same group only a new event is given.
    let (later, last) = (Seen::default(), event(&topic, "last", 16));
    bus.publish(last.clone()).await.unwrap();
    let member = Member::reader(&bus, &topic, &group, &later).await;
    assert!(later.reaches(1, QUIET).await);
    member.stop().await.unwrap();
    assert_eq!(later.ids(), [last.id().to_string()]);
    bus.close().await.unwrap();

    let mut read = seen.ids();
    read.extend(letters.iter().map(|(id, _)| id.clone()));
    let found = Findings::of(&log, &read);
    found
        .figures(
            "F-BUS-13/14",
            "poisoned events, handlers that panic",
            broker.name(),
        )
        .note(format!(
            "{} of them dead letters after 3 attempts; {} panics survived",
            letters.len(),
            panicking.len()
        ))
        .report();
    found.hold_without_order();
    assert_eq!(letters.len(), poisoned.len());
    for (id, headers) in &letters {
        assert!(poisoned.contains(id), "{id}");
        assert_eq!(headers[header::ATTEMPTS], "3");
        assert_eq!(headers[header::TOPIC], topic.as_str());
        assert!(headers[header::ERROR].contains("never works"), "{headers:?}");
    }
    for (id, attempts) in attempts.lock().unwrap().iter() {
        assert_eq!(*attempts, [1, 2, 3], "attempts of {id}");
    }
}

type Letter = (String, HashMap<String, String>);

async fn read_letters(
    bus: &Arc<dyn cqi_core::event::EventBus>,
    topic: &cqi_core::name::Topic,
    count: usize,
) -> Vec<Letter> {
    let letters: Arc<Mutex<Vec<Letter>>> = Arc::default();
    let seen = Seen::default();
    let handle = {
        let (letters, seen) = (Arc::clone(&letters), seen.clone());
        move |message: Message| {
            let headers = message.event.headers().iter();
            let headers = headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            letters
                .lock()
                .unwrap()
                .push((message.event.id().to_string(), headers));
            seen.note(&message);
            std::future::ready(Ok(()))
        }
    };
    let member = Member::join(bus, topic, &unique("letters"), ConsumeOptions::default(), handle).await;
    seen.reaches(count, QUIET).await;
    member.stop().await.unwrap();
    let letters = letters.lock().unwrap();
    letters.clone()
}

/// Members of one group come and go while events are published: the group loses none and leaves nothing behind.
async fn churn(broker: Broker) {
    let Some(server) = broker.start() else { return };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let load = Load {
        publishers: 4,
        events: 3_000,
        insist: true,
        ..Load::default()
    };
    let publishers = load.start(&bus, &topic, &log);
    let rounds = match broker {
        Broker::Nats => scale(50).max(10),
        // Each one is a rebalance.
        Broker::Kafka => scale(20).max(5),
    };
    for _ in 0..rounds {
        let member = Member::reader(&bus, &topic, "churn", &seen).await;
        member.stop().await.unwrap();
    }
    finish(publishers, &log).await;
    let member = Member::reader(&bus, &topic, "churn", &seen).await;
    seen.reaches(load.events, QUIET).await;
    member.stop().await.unwrap();
    let left = broker.consumers(server.url()).await;
    let stored = Findings::of(&log, &broker.stored(server.url(), &topic).await);
    bus.close().await.unwrap();

    let found = Findings::handled(&log, &seen.handled());
    found
        .figures("F-BUS-16", "members come and go under load", broker.name())
        .unknown(log.count(Outcome::Unknown))
        .note(format!(
            "{rounds} members came and went; left on the server: {left}"
        ))
        .report();
    stored.hold();
    found.hold_without_order();
    assert!(left <= 1, "the durable group and no more");
}

/// The stream is deleted under publishers and a group: what it held is gone with it, and everybody goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_17_nats_stream_deleted() {
    let broker = Broker::Nats;
    let Some(server) = broker.start() else { return };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let member = Member::reader(&bus, &topic, "group", &seen).await;
    let load = Load {
        events: 500,
        insist: true,
        ..Load::default()
    };
    finish(load.start(&bus, &topic, &log), &log).await;
    assert!(seen.reaches(load.events, QUIET).await);
    let client = async_nats::connect(server.url()).await.unwrap();
    async_nats::jetstream::new(client)
        .delete_stream("CQC_EVENTS")
        .await
        .unwrap();
    let deleted = Instant::now();
    finish(load.start(&bus, &topic, &log), &log).await;
    seen.reaches(2 * load.events, QUIET).await;
    let handled = seen.first_after(deleted).expect("the group goes on");
    member.stop().await.unwrap();
    bus.close().await.unwrap();

    let found = Findings::handled(&log, &seen.handled());
    found
        .figures(
            "F-BUS-17",
            "stream deleted under publishers and a group",
            broker.name(),
        )
        .unknown(log.count(Outcome::Unknown))
        .recovery(handled)
        .note("the stream was empty of unhandled events; both stream and consumer are made anew")
        .report();
    found.hold_without_order();
}

/// An id comes again within the window of the stream, and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_18_nats_id_again_after_the_window() {
    let broker = Broker::Nats;
    let Some(server) = broker.start() else { return };
    let window = Duration::from_secs(2);
    let tune = Tune {
        duplicate_window: window,
        publish_timeout: Duration::from_secs(1),
        ..Tune::default()
    };
    let bus = broker.connect(server.url(), &tune).await.unwrap();
    assert_eq!(bus.capabilities().dedup_window, Some(window));
    let (topic, log) = (topic(), Arc::new(Log::default()));
    let event = event(&topic, "key", 16);
    let publish = async || {
        log.note(&event, 0, Instant::now(), &bus.publish(event.clone()).await);
    };
    publish().await;
    publish().await;
    let within = broker.stored(server.url(), &topic).await.len();
    tokio::time::sleep(window + Duration::from_secs(1)).await; // the fault itself: the window passes
    publish().await;
    let after = broker.stored(server.url(), &topic).await.len();
    let delivered = read_all(&bus, &topic, 2, Duration::from_secs(1)).await;
    bus.close().await.unwrap();
    Figures::new(
        "F-BUS-18",
        "an id again within and after the window of 2 s",
        broker.name(),
    )
    .counts(1, delivered.len(), 0, delivered.len() - 1)
    .note(format!(
        "stored within the window {within}, after it {after}; an inbox makes one effect of them"
    ))
    .report();
    assert_eq!((within, after, delivered.len()), (1, 2, 2));
}
