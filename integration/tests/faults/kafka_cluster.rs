//! Three Kafka brokers that keep every event on each of them, and acknowledge what two have.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, thread, time::Duration};

use cqi_core::{event::EventBus, name::Topic};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::{
    eventually,
    fixture::{Kind, Options, Server},
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::{
    task::{block_in_place, spawn_blocking},
    time::Instant,
};

use crate::harness::{
    Findings, Load, Log, Member, Outcome, Seen, afterwards, finish, heavy, of_partitions, scale, start_three,
    three_addresses, topic,
};

/// How long the brokers may take to agree on something.
const LIMIT: Duration = Duration::from_secs(60);
/// A reader that sees nothing new for so long has seen everything.
const QUIET: Duration = Duration::from_secs(20);

/// The brokers 1 to 3.
struct Cluster(Vec<Server>);

impl Cluster {
    fn start() -> Option<Self> {
        let voters = three_addresses();
        start_three(Kind::Kafka, |n| options(n, &voters)).map(Self)
    }

    fn brokers(&self) -> Vec<String> {
        self.0.iter().map(|server| server.address().to_string()).collect()
    }

    /// Who leads the topic's first partition, once all three have all of every partition.
    async fn leader(&self, topic: &Topic) -> usize {
        let look = async || {
            let (brokers, topic) = (self.brokers().join(","), topic.clone());
            let asked = spawn_blocking(move || leader(&brokers, &topic));
            asked.await.unwrap()
        };
        let agreed = eventually("three brokers have the whole topic", LIMIT, look).await;
        agreed.unwrap()
    }

    /// The broker of this number.
    fn numbered(&self, n: usize) -> &Server {
        &self.0[n - 1]
    }
}

/// Those of the broker `n + 1`.
fn options(n: usize, voters: &[SocketAddr]) -> Options {
    let quorum: Vec<_> = (1..)
        .zip(voters)
        .map(|(n, voter)| format!("{n}@{voter}"))
        .collect();
    let lines = [
        format!("node.id={}", n + 1),
        format!("controller.quorum.voters={}", quorum.join(",")),
        format!("listeners=PLAINTEXT://{{address}},CONTROLLER://{}", voters[n]),
    ];
    lines.into_iter().fold(of_three(), Options::line)
}

/// Those of each of three brokers that keep every event on each of them, and acknowledge what two have.
pub(crate) fn of_three() -> Options {
    Options::new()
        .argument("-Xmx256m")
        .line("default.replication.factor=3")
        .line("min.insync.replicas=2")
        .line("offsets.topic.replication.factor=3")
}

/// Who leads the topic's first partition, if all three have all of every partition. Asks with a client of its own.
///
/// Blocks.
pub(crate) fn leader(brokers: &str, topic: &Topic) -> Result<usize, String> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    let found = client.fetch_metadata(Some(topic.as_str()), Duration::from_secs(5));
    let found = found.map_err(|error| error.to_string())?;
    let partitions = found.topics()[0].partitions();
    let copies: Vec<_> = partitions.iter().map(|each| each.isr().len()).collect();
    if copies.is_empty() || copies.iter().any(|copies| *copies < 3) {
        return Err(format!("copies of each partition: {copies:?}"));
    }
    let leader = partitions[0].leader();
    usize::try_from(leader).map_err(|_| "no leader".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_19_kafka_cluster_loses_a_leader_and_then_its_majority() {
    let _alone = heavy().await;
    let Some(cluster) = block_in_place(Cluster::start) else {
        return;
    };
    let options = KafkaOptions {
        brokers: cluster.brokers(),
        publish_timeout: Duration::from_secs(2),
        session_timeout: Duration::from_secs(6),
        ..KafkaOptions::default()
    };
    let bus: Arc<dyn EventBus> = Arc::new(KafkaBus::connect(options).await.unwrap());
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let member = Member::reader(&bus, &topic, "all", &seen).await;

    // A leader dies, under load: the controller, which may be a new one too, chooses another.
    let load = Load {
        events: scale(4_000),
        insist: true,
        ..Load::default()
    };
    let first = cluster.leader(&topic).await;
    let publishers = load.start(&bus, &topic, &log);
    log.acked(load.events / 4).await;
    block_in_place(|| cluster.numbered(first).kill());
    let killed = Instant::now();
    // However fast the others were, these come when the leader is dead, with keys on each of its partitions.
    let late = Load {
        prefix: "late",
        events: 200,
        ..afterwards()
    };
    finish(late.start(&bus, &topic, &log), &log).await;
    let elected = killed.elapsed();
    finish(publishers, &log).await;
    block_in_place(|| cluster.numbered(first).start());

    // Two of three die: nothing can be kept as promised, so nothing is acknowledged.
    let leader = cluster.leader(&topic).await;
    let gone = [leader, leader % 3 + 1];
    for n in gone {
        block_in_place(|| cluster.numbered(n).kill());
    }
    let alone = Arc::new(Log::default());
    let few = Load {
        publishers: 6,
        events: 18,
        prefix: "alone",
        ..Load::default()
    };
    finish(few.start(&bus, &topic, &alone), &alone).await;
    block_in_place(|| {
        thread::scope(|scope| {
            for broker in gone.map(|n| cluster.numbered(n)) {
                scope.spawn(|| broker.start());
            }
        });
    });
    let ready = Instant::now();
    finish(afterwards().start(&bus, &topic, &log), &log).await;
    let healed = log.first_after(ready).unwrap();

    cluster.leader(&topic).await;
    let (brokers, of) = (cluster.brokers().join(","), topic.clone());
    let records = spawn_blocking(move || of_partitions(&brokers, of.as_str())).await;
    // What was unknown when the majority was away may be there or not.
    let unsure = alone.entries();
    let sure = |id: &String| !unsure.contains_key(id);
    let stored: Vec<_> = records.unwrap().into_iter().map(|record| record.id).collect();
    let stored = Findings::of(&log, &stored.into_iter().filter(sure).collect::<Vec<_>>());
    // All of the log are acknowledged; of the others, some may come before them, between them, or never.
    let mut wanted = log.entries().len();
    while seen.reaches(wanted, QUIET).await {
        let extra = seen
            .ids()
            .iter()
            .filter(|id| !sure(id))
            .collect::<HashSet<_>>()
            .len();
        if wanted >= log.entries().len() + extra {
            break;
        }
        wanted = log.entries().len() + extra;
    }
    member.stop().await.unwrap();
    bus.close().await.unwrap();
    let handled: Vec<_> = seen.handled().into_iter().filter(|(id, _)| sure(id)).collect();
    let found = Findings::handled(&log, &handled);
    found
        .figures("F-BUS-19", "leader of three killed, then two of three", "Kafka")
        .unknown(log.unknown_calls() + alone.unknown_calls())
        .recovery(healed)
        .note(format!(
            "every partition acknowledged again {} ms after the leader's death, {} redeliveries overtaken",
            elected.as_millis(),
            found.overtaken
        ))
        .report();
    assert_eq!(alone.count(Outcome::Ok), 0, "acknowledged by one broker of three");
    stored.hold();
    found.hold();
    assert!(elected < Duration::from_secs(20), "{elected:?}");
    assert!(healed < Duration::from_secs(15), "{healed:?}");
}
