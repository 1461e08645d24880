//! Three NATS servers that keep every event on each of them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, thread, time::Duration};

use async_nats::jetstream::{self, stream::ClusterInfo};
use cqi_core::{event::EventBus, name::Topic};
use cqi_nats::{NatsBus, NatsOptions};
use cqi_testkit::{
    eventually,
    fixture::{Kind, Options, Server},
};
use tokio::{task::block_in_place, time::Instant};

use crate::harness::{
    Findings, Links, Load, Log, Member, Outcome, Seen, afterwards, finish, heavy, of_stream, scale,
    start_three, three_addresses, topic,
};

/// How long the servers may take to agree on something.
const LIMIT: Duration = Duration::from_secs(60);

/// The servers `n0` to `n2`.
struct Cluster(Vec<Server>);

impl Cluster {
    /// Servers that hear each other at these addresses, and find each other where `route` says, from one to another.
    fn start(addresses: [SocketAddr; 3], route: impl Fn(usize, usize) -> SocketAddr) -> Option<Self> {
        let options = |n| {
            let others = (0..3).filter(|other| *other != n);
            let others = others.map(|other| format!("\"nats://{}\"", route(n, other)));
            let others: Vec<_> = others.collect();
            // Servers tell each other of others too: with an address that leads nowhere, so that no way passes a link by.
            Options::new().line(format!("server_name: n{n}")).line(format!(
                "cluster: {{ name: cqi, listen: \"{}\", advertise: \"127.0.0.1:9\", routes: [{}] }}",
                addresses[n],
                others.join(", ")
            ))
        };
        start_three(Kind::Nats, options).map(Self)
    }

    fn url(&self) -> String {
        let urls: Vec<_> = self.0.iter().map(Server::url).collect();
        urls.join(",")
    }

    /// Who leads the stream and who follows, when all three have all of it.
    async fn agrees(&self) -> ClusterInfo {
        let look = async || {
            let client = async_nats::connect(self.0[0].url())
                .await
                .map_err(|error| error.to_string())?;
            let stream = jetstream::new(client).get_stream("CQC_EVENTS").await;
            let stream = stream.map_err(|error| error.to_string())?;
            let cluster = stream.cached_info().cluster.clone().unwrap_or_default();
            let follow = cluster
                .replicas
                .iter()
                .filter(|peer| peer.current && !peer.offline);
            if cluster.leader.is_some() && follow.count() == 2 {
                return Ok(cluster);
            }
            Err(format!("{cluster:?}"))
        };
        let agreed = eventually("three servers have the whole stream", LIMIT, look).await;
        agreed.unwrap()
    }

    /// The server of this name.
    fn named(&self, name: &str) -> &Server {
        &self.0[number(name)]
    }

    /// What each of the three has stored, in order.
    ///
    /// # Panics
    /// When they differ.
    async fn copy(&self, topic: &Topic) -> Vec<String> {
        self.agrees().await;
        let mut copies = BTreeMap::new();
        let end = Instant::now() + LIMIT;
        // Each tells what it has, as soon as the reader happens to be put on it.
        while copies.len() < 3 {
            assert!(Instant::now() < end, "only {:?} were read", copies.keys());
            let (reader, ids) = of_stream(self.0[0].url(), topic).await;
            copies.insert(reader.unwrap(), ids);
        }
        let mut copies = copies.into_values();
        let first = copies.next().unwrap();
        assert!(copies.all(|copy| copy == first), "the copies differ");
        first
    }
}

fn number(name: &str) -> usize {
    name[1..].parse().unwrap()
}

/// A bus on these servers, whose stream is on three.
async fn bus(url: &str) -> Arc<dyn EventBus> {
    let mut options = NatsOptions::new(url);
    options.stream.replicas = 3;
    options.publish_timeout = Duration::from_secs(2);
    options.ping_interval = Duration::from_secs(1);
    let connected = eventually("a stream on three servers", LIMIT, async || {
        NatsBus::connect(options.clone()).await
    });
    Arc::new(connected.await.unwrap())
}

/// Three events of which nobody may hear that they are kept.
fn few() -> Load {
    Load {
        publishers: 1,
        events: 3,
        prefix: "alone",
        ..Load::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_19_nats_cluster_loses_its_leader_and_then_its_majority() {
    let _alone = heavy().await;
    let addresses = three_addresses();
    let Some(cluster) = block_in_place(|| Cluster::start(addresses, |_, to| addresses[to])) else {
        return;
    };
    let bus = bus(&cluster.url()).await;
    let (topic, log) = (topic(), Arc::new(Log::default()));

    // The leader dies, under load: the others elect another one.
    let load = Load {
        events: scale(4_000),
        insist: true,
        ..Load::default()
    };
    let leader = cluster.agrees().await.leader.unwrap();
    let publishers = load.start(&bus, &topic, &log);
    log.acked(load.events / 4).await;
    block_in_place(|| cluster.named(&leader).kill());
    let killed = Instant::now();
    // However fast the others were, these come when the leader is dead.
    let late = Load {
        prefix: "late",
        ..afterwards()
    };
    finish(late.start(&bus, &topic, &log), &log).await;
    finish(publishers, &log).await;
    // Acknowledgements that were through already are none of the successor's.
    let through = Duration::from_millis(100);
    let elected = log.first_after(killed + through).map(|first| first + through);
    let elected = elected.or(log.first_after(killed)).unwrap();
    block_in_place(|| cluster.named(&leader).start());

    // Two of three die: nothing can be kept as promised, so nothing is acknowledged.
    let agreed = cluster.agrees().await;
    let gone = [agreed.leader.unwrap(), agreed.replicas[0].name.clone()];
    for name in &gone {
        block_in_place(|| cluster.named(name).kill());
    }
    let alone = Arc::new(Log::default());
    finish(few().start(&bus, &topic, &alone), &alone).await;
    block_in_place(|| {
        thread::scope(|scope| {
            for name in &gone {
                scope.spawn(|| cluster.named(name).start());
            }
        });
    });
    let ready = Instant::now();
    finish(afterwards().start(&bus, &topic, &log), &log).await;
    let healed = log.first_after(ready).unwrap();

    let copy = cluster.copy(&topic).await;
    bus.close().await.unwrap();

    assert_eq!(alone.count(Outcome::Ok), 0, "acknowledged by one server of three");
    // What was unknown when the majority was away may be there or not.
    let unsure = alone.entries();
    let stored: Vec<_> = copy.into_iter().filter(|id| !unsure.contains_key(id)).collect();
    let found = Findings::of(&log, &stored);
    found
        .figures(
            "F-BUS-19",
            "leader of three killed, then two of three",
            "NATS JetStream",
        )
        .unknown(log.unknown_calls() + alone.unknown_calls())
        .recovery(healed)
        .note(format!(
            "the leader's successor acknowledged after {} ms",
            elected.as_millis()
        ))
        .note("three equal copies")
        .report();
    found.hold();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_19_nats_cluster_is_cut_in_two() {
    let _alone = heavy().await;
    let addresses = three_addresses();
    let links = Links::default().and(0..3, &addresses).await;
    let route = |from, to| Links::address(from, to, addresses[to]);
    let Some(cluster) = block_in_place(|| Cluster::start(addresses, route)) else {
        return;
    };
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    bus(&cluster.url()).await.close().await.unwrap(); // which makes the stream
    let leader = cluster.agrees().await.leader.unwrap();
    let lone = bus(cluster.named(&leader).url()).await;
    let others = cluster
        .0
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != number(&leader));
    let others: Vec<_> = others.map(|(_, server)| server.url()).collect();
    let most = bus(&others.join(",")).await;
    let member = Member::reader(&lone, &topic, "all", &seen).await;

    // The leader is cut off from both others, and nobody is told. Those elect another one; it may keep nothing alone.
    let load = Load {
        events: scale(4_000),
        insist: true,
        ..Load::default()
    };
    let publishers = load.start(&most, &topic, &log);
    log.acked(load.events / 4).await;
    links.cut_off(&[number(&leader)]);
    let (cut, alone) = (Instant::now(), Arc::new(Log::default()));
    let refused = few().start(&lone, &topic, &alone);
    let late = Load {
        prefix: "late",
        ..afterwards()
    };
    finish(late.start(&most, &topic, &log), &log).await;
    let elected = cut.elapsed();
    finish(publishers, &log).await;
    finish(refused, &alone).await;

    links.heal().await;
    let healed = Instant::now();
    finish(afterwards().start(&lone, &topic, &log), &log).await;
    let recovery = log.first_after(healed).unwrap();
    let copy = cluster.copy(&topic).await;
    // What was unknown when the leader was alone may be there or not.
    let unsure = alone.entries();
    let stored: Vec<_> = copy
        .iter()
        .filter(|id| !unsure.contains_key(*id))
        .cloned()
        .collect();
    seen.reaches(copy.len(), LIMIT).await;
    member.stop().await.unwrap();
    lone.close().await.unwrap();
    most.close().await.unwrap();

    assert_eq!(alone.count(Outcome::Ok), 0, "acknowledged by one server of three");
    Findings::of(&log, &stored).hold();
    let handled = seen.handled().into_iter();
    let handled: Vec<_> = handled.filter(|(id, _)| !unsure.contains_key(id)).collect();
    let found = Findings::handled(&log, &handled);
    found
        .figures(
            "F-BUS-19",
            "cluster cut in two, its leader alone",
            "NATS JetStream",
        )
        .unknown(log.unknown_calls() + alone.unknown_calls())
        .recovery(recovery)
        .note(format!(
            "the other two acknowledged {} ms after the cut; three equal copies, {} redeliveries overtaken",
            elected.as_millis(),
            found.overtaken
        ))
        .report();
    found.hold();
}
