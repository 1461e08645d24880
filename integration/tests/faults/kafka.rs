//! What only Kafka has: rebalances, a client's own queue, partitions that other languages must find too.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cqi_core::{
    event::{StartAt, Subscription},
    name::Group,
};
use cqi_testkit::{
    fixture::{self, Kind, Server},
    unique,
};
use tokio::{
    task::block_in_place,
    time::{Instant, timeout},
};

use crate::{
    harness::{
        Broker, Figures, Findings, Load, Log, Member, Outcome, Seen, Tune, Worker, event, finish,
        of_partitions, scale, topic,
    },
    support::{has_python, python},
};

const QUIET: Duration = Duration::from_secs(20);

/// Three members, of which one after the other leaves and comes back while events are published and handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_kaf_01_rebalances_under_load() {
    let broker = Broker::Kafka;
    let Some(server) = broker.start() else { return };
    let publishing = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let load = Load {
        publishers: 4,
        events: scale(20_000),
        insist: true,
        ..Load::default()
    };
    // A bus of its own makes each a member for Kafka, as processes of their own would.
    let join = async || {
        let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
        (Member::reader(&bus, &topic, "group", &seen).await, bus)
    };
    let mut members = [Some(join().await), Some(join().await), Some(join().await)];
    let mut publishers = load.start(&publishing, &topic, &log);
    let (mut changes, most) = (0, scale(20).max(4));
    let began = Instant::now();
    while changes < most && began.elapsed() < Duration::from_secs(40) {
        let slot = &mut members[(changes / 2) % 3];
        match slot.take() {
            Some((member, bus)) => {
                member.stop().await.unwrap();
                bus.close().await.unwrap();
            }
            None => *slot = Some(join().await),
        }
        changes += 1;
        while publishers.try_join_next().is_some() {}
        if publishers.is_empty() {
            // There is always something to be handled.
            let again = Load {
                prefix: format!("again{changes}-").leak(),
                ..load.clone()
            };
            publishers = again.start(&publishing, &topic, &log);
        }
    }
    finish(publishers, &log).await;
    let published = log.entries().len();
    seen.reaches(published, QUIET).await;
    for (member, bus) in members.into_iter().flatten() {
        member.stop().await.unwrap();
        bus.close().await.unwrap();
    }
    // Had a commit gone back, or forward over what was not handled, the group would now begin elsewhere.
    let (later, last) = (Seen::default(), event(&topic, "last", 16));
    publishing.publish(last.clone()).await.unwrap();
    let member = Member::reader(&publishing, &topic, "group", &later).await;
    assert!(later.reaches(1, QUIET).await);
    member.stop().await.unwrap();
    publishing.close().await.unwrap();
    let found = Findings::handled(&log, &seen.handled());
    found
        .figures("F-KAF-01", "rebalances under load", broker.name())
        .unknown(log.count(Outcome::Unknown))
        .note(format!("{changes} times a member left or joined"))
        .report();
    found.hold();
    assert_eq!(
        later.ids(),
        [last.id().to_string()],
        "the group had settled everything"
    );
}

/// A publishing process is killed: what it was told is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_kaf_03_publisher_killed_in_a_burst() {
    let broker = Broker::Kafka;
    let Some(server) = broker.start() else { return };
    let topic = topic();
    let publisher = Worker::start(&["publish", server.url(), topic.as_str()]);
    publisher.prints(scale(2_000)).await;
    // The last line may have been cut.
    let acked = block_in_place(|| publisher.kill());
    let acked: Vec<String> = acked.into_iter().filter(|id| id.len() == 36).collect();
    let stored = broker.stored(server.url(), &topic).await;
    let lost = acked.iter().filter(|id| !stored.contains(id)).count();
    Figures::new("F-KAF-03", "publishing process killed in a burst", broker.name())
        .counts(acked.len(), stored.len(), lost, 0)
        .note("of what was on its way, some is stored too")
        .report();
    assert_eq!(lost, 0);
}

/// The shared server, if a client in Python can be run beside it; `None` after saying that the test is skipped.
fn with_python() -> Option<&'static Server> {
    if !has_python("kafka") {
        fixture::skip("Python has no kafka-python: run scripts/servers, which installs it");
        return None;
    }
    block_in_place(|| fixture::require(Kind::Kafka))
}

/// The same keys from our producer and from one that has Java's partitioner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_kaf_07_other_clients_find_the_same_partitions() {
    let broker = Broker::Kafka;
    let Some(server) = with_python() else { return };
    let tune = Tune {
        partitions: 12,
        ..Tune::default()
    };
    let bus = broker.connect(server.url(), &tune).await.unwrap();
    let topic = topic();
    let keys: Vec<String> = (0..1_000).map(|n| format!("{}-{n}", unique("k"))).collect();
    let events = keys.iter().map(|key| event(&topic, key, 4)).collect();
    for result in bus.publish_batch(events).await {
        result.unwrap();
    }
    bus.close().await.unwrap();
    let servers = server.url().trim_start_matches("kafka://").to_owned();
    let records = {
        let (servers, topic) = (servers.clone(), topic.clone());
        block_in_place(move || {
            python(
                "kafka_client.py",
                &["write", &servers, topic.as_str()],
                &keys.join("\n"),
            );
            of_partitions(&servers, topic.as_str())
        })
    };
    let (mut ours, mut theirs) = (HashMap::new(), HashMap::new());
    for record in records {
        // The other client writes no envelope.
        let of = if record.id.is_empty() {
            &mut theirs
        } else {
            &mut ours
        };
        of.insert(record.key.unwrap(), record.partition);
    }
    let differ = ours
        .iter()
        .filter(|(key, partition)| theirs.get(*key) != Some(*partition))
        .count();
    let used: std::collections::HashSet<_> = ours.values().collect();
    Figures::new(
        "F-KAF-07",
        "same keys from a client with Java's partitioner",
        broker.name(),
    )
    .counts(ours.len(), theirs.len(), 0, 0)
    .note(format!(
        "{differ} of 1000 keys in another partition; {} of 12 partitions used",
        used.len()
    ))
    .report();
    assert_eq!((ours.len(), theirs.len(), differ), (1_000, 1_000, 0));
    assert_eq!(used.len(), 12);
}

/// Whoever may write to the topic can name a header with bytes that are no text: that one is left out, and what comes behind
/// is not held up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_07_headers_that_are_no_text_are_left_out_and_hold_nothing_up() {
    let Some(server) = with_python() else { return };
    let tune = Tune {
        partitions: 1,
        ..Tune::default()
    };
    let bus = Broker::Kafka.connect(server.url(), &tune).await.unwrap();
    let topic = topic();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let pair = |name: &[u8], value: &[u8]| format!("{}={}", hex(name), hex(value));
    let lines = [
        [
            pair(b"\xff\xfe", b"1"),
            pair(b"ce_id", b"first"),
            pair(b"tenant", "é".as_bytes()),
        ],
        [
            pair(b"ce_id\x80", b"no"),
            pair(b"tenant", b"\xff"),
            pair(b"other", b"2"),
        ],
        [pair(b"", b"3"), pair(b"ce_id", b"third"), pair(b"tenant", b"4")],
    ];
    let servers = server.url().trim_start_matches("kafka://").to_owned();
    bus.publish(event(&topic, "key", 1)).await.unwrap(); // makes the topic
    block_in_place(|| {
        let input = lines.map(|line| line.join(" ")).join("\n");
        python("kafka_client.py", &["headers", &servers, topic.as_str()], &input)
    });
    bus.publish(event(&topic, "key", 1)).await.unwrap();
    let subscription = Subscription::new(topic.clone(), Group::parse("group").unwrap());
    let mut deliveries = bus
        .subscribe(subscription.with_start_at(StartAt::Oldest))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let next = timeout(QUIET, deliveries.next(10)).await.expect("no events");
        for delivery in next.unwrap().unwrap() {
            let event = delivery.event().clone();
            let headers = event.headers().iter();
            let headers: Vec<_> = headers.map(|(name, value)| format!("{name}={value}")).collect();
            seen.push((event.id().to_string(), headers.join(" ")));
            delivery.ack().await.unwrap();
        }
    }
    bus.close().await.unwrap();
    let own = |(id, headers): &(String, String)| (id.contains('-'), headers.clone());
    assert_eq!(seen[1], ("first".to_owned(), "tenant=é".to_owned()));
    assert_eq!(own(&seen[2]), (true, "other=2".to_owned()), "its id is its place");
    assert_eq!(seen[3], ("third".to_owned(), "tenant=4".to_owned()));
    assert_eq!(own(&seen[4]), (true, String::new()), "the next one");
}
