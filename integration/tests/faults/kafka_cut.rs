//! Three Kafka brokers, one of which the others do not hear any longer.

use std::{
    collections::HashSet, fmt::Write as _, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration,
};

use cqi_core::event::EventBus;
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::{
    eventually,
    fixture::{Kind, Options},
};
use tokio::{
    task::{block_in_place, spawn_blocking},
    time::Instant,
};

use crate::{
    harness::{
        Broker, Findings, Links, Load, Log, Member, Outcome, Seen, afterwards, finish, heavy, of_partitions,
        scale, start_three, three_addresses, topic,
    },
    kafka_cluster::{leader, of_three},
};

/// How long the brokers may take to agree on something.
const LIMIT: Duration = Duration::from_secs(60);
/// The places of the clients, one on each side of the cut.
const MOST: usize = 3;
const LONE: usize = 4;

/// Where the brokers listen: for each other as controllers, for each other as brokers, and for either client. A broker tells a
/// client the addresses of the listener it came by.
struct Listeners {
    controller: [SocketAddr; 3],
    inner: [SocketAddr; 3],
    most: [SocketAddr; 3],
    lone: [SocketAddr; 3],
}

impl Listeners {
    fn choose() -> Self {
        Self {
            controller: three_addresses(),
            inner: three_addresses(),
            most: three_addresses(),
            lone: three_addresses(),
        }
    }

    async fn links(&self) -> Links {
        let links = Links::default().and(0..3, &self.controller).await;
        let links = links.and(0..3, &self.inner).await;
        let links = links.and(MOST..MOST + 1, &self.most).await;
        links.and(LONE..LONE + 1, &self.lone).await
    }

    /// Where the client at `place` finds these brokers.
    fn brokers(&self, place: usize, brokers: impl IntoIterator<Item = usize>) -> Vec<String> {
        let listeners = if place == LONE { self.lone } else { self.most };
        let brokers = brokers.into_iter();
        let addresses = brokers.map(|n| Links::address(place, n, listeners[n]));
        addresses.map(|address| address.to_string()).collect()
    }
}

/// Those of the broker `n`. Brokers call each other by name, and each has names that lead to its own links.
fn options(n: usize, listeners: &Listeners, folder: &Path) -> Options {
    let mut hosts = String::new();
    for to in 0..3 {
        let ip = Links::address(n, to, listeners.inner[to]).ip();
        writeln!(hosts, "{ip} k{to}").unwrap();
    }
    let file = folder.join(format!("hosts{n}"));
    fs::write(&file, hosts).unwrap();
    let voters: Vec<_> = (0..3)
        .map(|to| format!("{to}@k{to}:{}", listeners.controller[to].port()))
        .collect();
    let named = |listener: [SocketAddr; 3]| format!("k{n}:{}", listener[n].port());
    let linked = |place: usize, listener: [SocketAddr; 3]| Links::address(place, n, listener[n]);
    of_three()
        .argument(format!("-Djdk.net.hosts.file={}", file.display()))
        .line(format!("node.id={n}"))
        .line(format!("controller.quorum.voters={}", voters.join(",")))
        .line("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,INNER:PLAINTEXT,MOST:PLAINTEXT,LONE:PLAINTEXT")
        .line("inter.broker.listener.name=INNER")
        .line(format!(
            "listeners=PLAINTEXT://{{address}},CONTROLLER://{},INNER://{},MOST://{},LONE://{}",
            listeners.controller[n], listeners.inner[n], listeners.most[n], listeners.lone[n]
        ))
        .line(format!(
            "advertised.listeners=PLAINTEXT://{{address}},CONTROLLER://{},INNER://{},MOST://{},LONE://{}",
            named(listeners.controller),
            named(listeners.inner),
            linked(MOST, listeners.most),
            linked(LONE, listeners.lone),
        ))
}

async fn bus(brokers: Vec<String>) -> Arc<dyn EventBus> {
    let options = KafkaOptions {
        brokers,
        publish_timeout: Duration::from_secs(2),
        session_timeout: Duration::from_secs(6),
        ..KafkaOptions::default()
    };
    Arc::new(KafkaBus::connect(options).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_19_kafka_cluster_is_cut_in_two() {
    let _alone = heavy().await;
    let (listeners, folder) = (Listeners::choose(), tempfile::tempdir().unwrap());
    let links = listeners.links().await;
    let started = || start_three(Kind::Kafka, |n| options(n, &listeners, folder.path()));
    let Some(cluster) = block_in_place(started) else {
        return;
    };
    let addresses: Vec<_> = cluster
        .iter()
        .map(|broker| broker.address().to_string())
        .collect();
    let addresses = addresses.join(",");
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let agrees = async || {
        let look = async || {
            let (brokers, topic) = (addresses.clone(), topic.clone());
            spawn_blocking(move || leader(&brokers, &topic)).await.unwrap()
        };
        eventually("three brokers have the whole topic", LIMIT, look)
            .await
            .unwrap()
    };
    let first = bus(listeners.brokers(MOST, 0..3)).await;
    finish(afterwards().start(&first, &topic, &log), &log).await; // which makes the topic
    first.close().await.unwrap();
    let alone = agrees().await;
    let most = bus(listeners.brokers(MOST, (0..3).filter(|n| *n != alone))).await;
    let lone = bus(listeners.brokers(LONE, [alone])).await;
    let member = Member::reader(&most, &topic, "all", &seen).await;

    let load = Load {
        events: scale(4_000),
        insist: true,
        ..Load::default()
    };
    // A leader is cut off from both others, and nobody is told. They go on; it may acknowledge nothing alone.
    let publishers = load.start(&most, &topic, &log);
    log.acked(100 + load.events / 4).await;
    links.cut_off(&[alone, LONE]);
    let (cut, unsure) = (Instant::now(), Arc::new(Log::default()));
    let few = Load {
        publishers: 6,
        events: 18,
        prefix: "alone",
        ..Load::default()
    };
    let refused = few.start(&lone, &topic, &unsure);
    let late = Load {
        prefix: "late",
        events: 200,
        ..afterwards()
    };
    finish(late.start(&most, &topic, &log), &log).await;
    let elected = cut.elapsed();
    finish(publishers, &log).await;
    finish(refused, &unsure).await;

    links.heal().await;
    let healed = Instant::now();
    let after = Load {
        prefix: "healed",
        ..afterwards()
    };
    finish(after.start(&lone, &topic, &log), &log).await;
    let recovery = log.first_after(healed).unwrap();
    agrees().await;
    let (brokers, of) = (addresses.clone(), topic.clone());
    let records = spawn_blocking(move || of_partitions(&brokers, of.as_str())).await;
    // What was unknown when the broker was alone may be there or not.
    let unknown = unsure.entries();
    let stored: Vec<_> = records.unwrap().into_iter().map(|record| record.id).collect();
    seen.reaches(stored.iter().collect::<HashSet<_>>().len(), LIMIT)
        .await;
    member.stop().await.unwrap();
    lone.close().await.unwrap();
    most.close().await.unwrap();

    assert_eq!(
        unsure.count(Outcome::Ok),
        0,
        "acknowledged by one broker of three"
    );
    let stored: Vec<_> = stored
        .into_iter()
        .filter(|id| !unknown.contains_key(id))
        .collect();
    Findings::of(&log, &stored).hold();
    let handled: Vec<_> = seen
        .handled()
        .into_iter()
        .filter(|(id, _)| !unknown.contains_key(id))
        .collect();
    let found = Findings::handled(&log, &handled);
    found
        .figures("F-BUS-19", "cluster cut in two, a leader alone", "Kafka")
        .unknown(log.unknown_calls() + unsure.unknown_calls())
        .recovery(recovery)
        .note(format!(
            "the other two acknowledged on every partition {} ms after the cut, {} redeliveries overtaken",
            elected.as_millis(),
            found.overtaken
        ))
        .report();
    found.hold();
    assert!(recovery < Broker::Kafka.recovery(), "{recovery:?}");
}
