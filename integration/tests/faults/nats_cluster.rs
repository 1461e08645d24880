//! Three NATS servers that keep every event on each of them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, thread, time::Duration};

use async_nats::jetstream::{self, stream::ClusterInfo};
use cqi_core::event::EventBus;
use cqi_nats::{NatsBus, NatsOptions};
use cqi_testkit::{
    eventually,
    fixture::{Kind, Options, Server},
};
use tokio::{task::block_in_place, time::Instant};

use crate::harness::{
    Findings, Load, Log, Outcome, afterwards, finish, heavy, of_stream, scale, start_three, topic,
};

/// How long the servers may take to agree on something.
const LIMIT: Duration = Duration::from_secs(60);

/// The servers `n0` to `n2`.
struct Cluster(Vec<Server>);

impl Cluster {
    fn start() -> Option<Self> {
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
        &self.0[name[1..].parse::<usize>().unwrap()]
    }
}

fn options(n: usize, routes: &[SocketAddr]) -> Options {
    let others: Vec<_> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
    Options::new().line(format!("server_name: n{n}")).line(format!(
        "cluster: {{ name: cqi, listen: \"{}\", routes: [{}] }}",
        routes[n],
        others.join(", ")
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_19_nats_cluster_loses_its_leader_and_then_its_majority() {
    let _alone = heavy().await;
    let Some(cluster) = block_in_place(Cluster::start) else {
        return;
    };
    let mut options = NatsOptions::new(&cluster.url());
    options.stream.replicas = 3;
    options.publish_timeout = Duration::from_secs(2);
    options.ping_interval = Duration::from_secs(1);
    let connected = eventually("a stream on three servers", LIMIT, async || {
        NatsBus::connect(options.clone()).await
    });
    let bus: Arc<dyn EventBus> = Arc::new(connected.await.unwrap());
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
    let (alone, few) = (
        Arc::new(Log::default()),
        Load {
            publishers: 1,
            events: 3,
            prefix: "alone",
            ..Load::default()
        },
    );
    finish(few.start(&bus, &topic, &alone), &alone).await;
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

    // Each server tells what it has, as soon as the reader happens to be put on it.
    cluster.agrees().await;
    let mut copies = BTreeMap::new();
    let end = Instant::now() + LIMIT;
    while copies.len() < 3 {
        assert!(Instant::now() < end, "only {:?} were read", copies.keys());
        let (reader, ids) = of_stream(cluster.0[0].url(), &topic).await;
        copies.insert(reader.unwrap(), ids);
    }
    bus.close().await.unwrap();

    assert_eq!(alone.count(Outcome::Ok), 0, "acknowledged by one server of three");
    let mut copies = copies.into_values();
    let first = copies.next().unwrap();
    assert!(copies.all(|copy| copy == first), "the copies differ");
    // What was unknown when the majority was away may be there or not.
    let unsure = alone.entries();
    let stored: Vec<_> = first.into_iter().filter(|id| !unsure.contains_key(id)).collect();
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
