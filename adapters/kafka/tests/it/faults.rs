//! Kafka killed, paused, gone; members that crash (TST-7).

use std::{
    collections::HashSet,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cqi_core::{
    Code, Error,
    event::{Deliveries, Delivery, Event, EventBus as _, Redelivery, StartAt, Subscription},
    name::{Group, Topic, topic_name},
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::{
    eventually,
    fixture::{self, Kind, Options},
    unique,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::support::{options, options_of};

const LIMIT: Duration = Duration::from_secs(120);

fn topic() -> Topic {
    topic_name(&unique("topic")).unwrap()
}

fn group() -> Group {
    Group::parse(&unique("group")).unwrap()
}

fn event(topic: &Topic, n: usize) -> Event {
    Event::builder(topic.clone())
        .key(format!("key-{}", n % 16))
        .payload(n.to_string())
        .build()
        .unwrap()
}

fn number(delivery: &Delivery) -> usize {
    String::from_utf8_lossy(delivery.event().payload())
        .parse()
        .unwrap()
}

async fn next(deliveries: &mut Box<dyn Deliveries>) -> Vec<Delivery> {
    let end = Instant::now() + LIMIT;
    loop {
        match timeout(end - Instant::now(), deliveries.next(100)).await {
            Ok(Some(Ok(batch))) => return batch,
            Ok(Some(Err(error))) if error.is_temporary() => {}
            other => panic!("no events: {other:?}"),
        }
    }
}

/// Acknowledges until all of `wanted` have come.
async fn read_all(deliveries: &mut Box<dyn Deliveries>, wanted: impl IntoIterator<Item = usize>) {
    let mut missing: HashSet<usize> = wanted.into_iter().collect();
    while !missing.is_empty() {
        for delivery in next(deliveries).await {
            missing.remove(&number(&delivery));
            let _ = delivery.ack().await; // one that is no longer ours comes again
        }
    }
}

async fn oldest(bus: &KafkaBus, topic: &Topic, group: &Group) -> Box<dyn Deliveries> {
    let subscription = Subscription::new(topic.clone(), group.clone()).with_start_at(StartAt::Oldest);
    bus.subscribe(subscription).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f_bus_01_nothing_acknowledged_is_lost_when_the_broker_is_killed() {
    let Some(server) = fixture::require_own(Kind::Kafka, &Options::new()) else {
        return;
    };
    let bus = KafkaBus::connect(options(&server)).await.unwrap();
    let topic = topic();
    let mut reader = oldest(&bus, &topic, &group()).await;
    let published = Arc::new(AtomicUsize::new(0));
    let mut publishers = JoinSet::new();
    for publisher in 0..8 {
        let (bus, topic, published) = (bus.clone(), topic.clone(), Arc::clone(&published));
        publishers.spawn(async move {
            for n in (publisher..4_000).step_by(8) {
                // As the policy does: again under the same id, until the broker is back.
                let event = event(&topic, n);
                let end = Instant::now() + LIMIT;
                while let Err(error) = bus.publish(event.clone()).await {
                    assert!(error.is_temporary(), "{error}");
                    assert!(Instant::now() < end, "publishing did not recover: {error}");
                }
                published.fetch_add(1, SeqCst);
            }
        });
    }
    let fault = async {
        eventually("publishing is under way", LIMIT, async || {
            match published.load(SeqCst) {
                500.. => Ok(()),
                few => Err(format!("{few} events")),
            }
        })
        .await
        .unwrap();
        // Blocks this task only; the other threads go on.
        tokio::task::block_in_place(|| {
            server.kill();
            server.start();
        });
    };
    let ((), ()) = tokio::join!(fault, async {
        while let Some(ended) = publishers.join_next().await {
            ended.unwrap();
        }
    });
    read_all(&mut reader, 0..4_000).await;
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f_kaf_05_06_a_broker_that_hangs_holds_nobody_for_ever() {
    let Some(server) = fixture::require_own(Kind::Kafka, &Options::new()) else {
        return;
    };
    let small = KafkaOptions {
        max_in_flight: 100,
        publish_timeout: Duration::from_secs(1),
        ..options(&server)
    };
    let bus = KafkaBus::connect(small).await.unwrap();
    let topic = topic();
    let mut reader = bus
        .subscribe(Subscription::new(topic.clone(), group()))
        .await
        .unwrap();
    bus.publish(event(&topic, 0)).await.unwrap();
    read_all(&mut reader, [0]).await;
    server.pause();

    let start = Instant::now();
    let mut publishers = JoinSet::new();
    for n in 0..200 {
        let (bus, topic) = (bus.clone(), topic.clone());
        publishers.spawn(async move { bus.publish(event(&topic, n)).await });
    }
    let (mut full, mut unknown) = (0, 0);
    while let Some(published) = publishers.join_next().await {
        let error = published.unwrap().unwrap_err();
        assert!(error.is_temporary(), "{error}");
        match error.code() {
            Some(Code::Exhausted) => full += usize::from(!error.may_have_applied()),
            _ => unknown += usize::from(error.may_have_applied()),
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "took {:?}",
        start.elapsed()
    );
    assert_eq!((full, unknown), (100, 100));

    let start = Instant::now();
    drop(reader);
    let _ = bus.close().await; // whether it could leave in time or not
    assert!(
        start.elapsed() < Duration::from_secs(14),
        "took {:?}",
        start.elapsed()
    );
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn f_kaf_03_closing_in_a_burst_stores_all_or_says_no() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let topic = topic();
    let bus = KafkaBus::connect(options(server)).await.unwrap();
    bus.publish(event(&topic, 0)).await.unwrap();
    let burst = bus.publish_batch((1..5_000).map(|n| event(&topic, n)).collect());
    let (results, closed) = tokio::join!(burst, bus.close());
    closed.unwrap();
    let stored: Vec<usize> = (1..5_000)
        .zip(&results)
        .filter(|(_, result)| result.is_ok())
        .map(|(n, _)| n)
        .collect();
    let second = KafkaBus::connect(options(server)).await.unwrap();
    read_all(&mut oldest(&second, &topic, &group()).await, stored).await;
    second.close().await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_one_clear_error_in_time() {
    let mut options = options_of("kafka://127.0.0.1:9");
    options.connection_timeout = Duration::from_secs(2);
    let start = Instant::now();
    let error: Error = KafkaBus::connect(options).await.unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "took {:?}",
        start.elapsed()
    );
    assert_eq!(
        (error.is_temporary(), error.code()),
        (true, Some(Code::Unavailable)),
        "{error}"
    );
    let line = error.to_string();
    assert!(line.contains("127.0.0.1:9") && line.contains("refused"), "{line}");
}

#[tokio::test]
async fn ml_msg_3_a_topic_that_must_not_be_created_is_not_found() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let strict = KafkaOptions {
        create_topics: false,
        ..options(server)
    };
    let bus = KafkaBus::connect(strict).await.unwrap();
    let topic = topic();
    let error = bus.publish(event(&topic, 0)).await.unwrap_err();
    assert!(
        error.is_not_found() && error.to_string().contains(topic.as_str()),
        "{error}"
    );
    let error = bus
        .subscribe(Subscription::new(topic, group()))
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_remembered_and_waits_when_its_member_is_killed() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let (topic, group) = (topic(), group());
    let bus = KafkaBus::connect(options(server)).await.unwrap();
    drop(oldest(&bus, &topic, &group).await);
    for n in 0..3 {
        bus.publish(event(&topic, n)).await.unwrap();
    }
    // The child takes all three: one it settles, one fails and waits, one it has in hand when it is killed.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child", "--ignored", "--nocapture"])
        .env("CQI_TEST_CHILD", format!("{} {topic} {group}", server.url()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let _ready = tokio::task::spawn_blocking(move || {
        use std::io::BufRead as _;
        std::io::BufReader::new(out)
            .lines()
            .find(|line| line.as_ref().unwrap().contains("READY"))
    })
    .await
    .unwrap()
    .expect("the child took the events");
    let nacked = Instant::now();
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();

    let mut reader = oldest(&bus, &topic, &group).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for delivery in next(&mut reader).await {
            seen.push((number(&delivery), delivery.attempt(), nacked.elapsed()));
            delivery.ack().await.unwrap();
        }
    }
    seen.sort_by_key(|(number, ..)| *number);
    let numbers: Vec<_> = seen
        .iter()
        .map(|(number, attempt, _)| (*number, *attempt))
        .collect();
    assert_eq!(
        numbers,
        [(1, 2), (2, 2)],
        "event 0 was settled, the others have one attempt behind them"
    );
    assert!(
        seen[0].2 >= Duration::from_secs(9),
        "the pause was 10 s: {seen:?}"
    );
    bus.close().await.unwrap();
}

/// The child of the test above.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn child() {
    #[allow(clippy::disallowed_methods)] // the test talks to itself
    let Ok(arguments) = std::env::var("CQI_TEST_CHILD") else {
        return;
    };
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let bus = KafkaBus::connect(options_of(arguments[0])).await.unwrap();
    let subscription = Subscription::new(
        Topic::parse(arguments[1]).unwrap(),
        Group::parse(arguments[2]).unwrap(),
    )
    .with_ack_deadline(Duration::from_secs(3));
    let mut deliveries = bus.subscribe(subscription).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(next(&mut deliveries).await);
    }
    held.sort_by_key(number);
    let mut held = held.into_iter();
    held.next().unwrap().ack().await.unwrap();
    held.next()
        .unwrap()
        .nack(Redelivery::After(Duration::from_secs(10)))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await; // longer than settled events wait for their commit
    println!("READY");
    tokio::time::sleep(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_and_a_pause_without_end_are_taken() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let (bus, topic) = (KafkaBus::connect(options(server)).await.unwrap(), topic());
    let wanted = Subscription::new(topic.clone(), group()).with_ack_deadline(Duration::MAX);
    let mut deliveries = bus.subscribe(wanted).await.unwrap();
    for n in 0..2 {
        bus.publish(event(&topic, n)).await.unwrap();
        let delivery = loop {
            let next = timeout(LIMIT, deliveries.next(1)).await.unwrap();
            if let Some(delivery) = next.unwrap().unwrap().pop() {
                break delivery;
            }
        };
        assert_eq!(number(&delivery), n, "the other one came back");
        delivery.extend().await.unwrap();
        delivery.nack(Redelivery::After(Duration::MAX)).await.unwrap();
    }
    bus.close().await.unwrap();
}
