//! Both suites on a cluster of three, and its own faults.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{Code, Kind, Result, cache::Cache, registry::Registry};
use cqi_redis::{RedisCache, RedisOptions, RedisRegistry, RedisRegistryOptions};
use cqi_testkit::{
    conformance::{Profile, cache::CacheHarness, registry::RegistryHarness},
    eventually,
    fixture::{self, Kind as Fixture, Options, Server},
    unique,
};
use futures::future::join_all;
use tokio::sync::OnceCell;

use crate::kit::{FOR_EVER, ask, options, raw};

/// Three nodes, each with its bus port.
struct Cluster(Vec<(Server, u16)>);

impl Cluster {
    /// Of nodes that do not know each other yet; without any where Redis is missing.
    fn start() -> Self {
        Self((0..3).filter_map(|_| Self::node()).collect())
    }

    fn node() -> Option<(Server, u16)> {
        let bus = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let options = Options::new()
            .line("cluster-enabled yes")
            .line("cluster-node-timeout 1000")
            .line("cluster-require-full-coverage no")
            .line(format!("cluster-port {bus}"));
        Some((fixture::start(Fixture::Redis, &options).ok()?, bus))
    }

    fn address(&self, node: usize) -> SocketAddr {
        self.0[node].0.address()
    }

    /// Makes the nodes one cluster that serves every slot, a third each.
    async fn join(&self) {
        for (n, (_, bus)) in self.0.iter().enumerate() {
            let slots = [n * 5462, (n * 5462 + 5461).min(16383)].map(|slot| slot.to_string());
            let _: () = ask(
                self.address(n),
                &["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]],
            )
            .await;
            let _: () = ask(
                self.address(n),
                &["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()],
            )
            .await;
            let (port, bus) = (self.address(n).port().to_string(), bus.to_string());
            let _: () = ask(self.address(0), &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        for n in 0..self.0.len() {
            eventually(
                "every node knows who serves every slot",
                Duration::from_secs(60),
                async || {
                    let info: String = ask(self.address(n), &["CLUSTER", "INFO"]).await;
                    let whole = [
                        "cluster_state:ok",
                        "cluster_known_nodes:3",
                        "cluster_slots_ok:16384",
                    ];
                    if whole.iter().all(|line| info.contains(line)) {
                        Ok(())
                    } else {
                        Err(info)
                    }
                },
            )
            .await
            .unwrap();
        }
    }

    fn options(&self) -> RedisOptions {
        RedisOptions {
            nodes: (0..self.0.len())
                .map(|n| (self.address(n).ip().to_string(), self.address(n).port()))
                .collect(),
            cluster: true,
            ..options(self.address(0))
        }
    }

    /// A key of each node.
    async fn keys(&self) -> Vec<String> {
        let mut keys = vec![None; 3];
        while keys.iter().any(Option::is_none) {
            let key = unique("key");
            let slot: usize = ask(self.address(0), &["CLUSTER", "KEYSLOT", &key]).await;
            keys[slot / 5462] = Some(key);
        }
        keys.into_iter().flatten().collect()
    }
}

/// The one of both suites, whose calls may take longer.
async fn shared() -> RedisOptions {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static JOINED: OnceCell<()> = OnceCell::const_new();
    let cluster = CLUSTER.get_or_init(Cluster::start);
    JOINED.get_or_init(|| cluster.join()).await;
    RedisOptions {
        timeout: Duration::from_secs(5),
        ..cluster.options()
    }
}

async fn own() -> Option<Cluster> {
    if let Some(why) = fixture::missing(Fixture::Redis) {
        fixture::skip(&why);
        return None;
    }
    let cluster = Cluster::start();
    cluster.join().await;
    Some(cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_takes_its_keys_only_and_comes_back() {
    let Some(cluster) = own().await else { return };
    let cache = RedisCache::connect(cluster.options()).await.unwrap();
    let keys = cluster.keys().await;
    for key in &keys {
        cache.set(key, "v".into(), FOR_EVER).await.unwrap();
    }
    cluster.0[1].0.kill();
    eventually(
        "the keys of a dead node are reported",
        Duration::from_secs(5),
        async || match cache.get(&keys[1]).await {
            Err(error) if error.is_temporary() => Ok(()),
            other => Err(other),
        },
    )
    .await
    .unwrap();
    for _ in 0..20 {
        for key in [&keys[0], &keys[2]] {
            assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b"v"[..]));
        }
        assert!(cache.get(&keys[1]).await.unwrap_err().is_temporary());
    }
    cluster.0[1].0.start();
    eventually(
        "its keys can be written again",
        Duration::from_secs(10),
        async || cache.set(&keys[1], "w".into(), FOR_EVER).await,
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_moved_is_followed_without_an_error_and_counted_once() {
    let Some(cluster) = own().await else { return };
    let cache = RedisCache::connect(cluster.options()).await.unwrap();
    let key = &cluster.keys().await[0];
    assert_eq!(cache.add(key, 1, None).await.unwrap(), 1);
    assert!(cache.delete(key).await.unwrap());
    let slot: i64 = ask(cluster.address(0), &["CLUSTER", "KEYSLOT", key]).await;
    let to: String = ask(cluster.address(2), &["CLUSTER", "MYID"]).await;
    for n in [2, 0, 1] {
        let _: () = ask(
            cluster.address(n),
            &["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &to],
        )
        .await;
    }
    for sum in 1..=100 {
        assert_eq!(cache.add(key, 1, None).await.unwrap(), sum);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_keeps_nobody_from_connecting() {
    let Some(cluster) = own().await else { return };
    let keys = cluster.keys().await;
    cluster.0[1].0.pause();
    let options = RedisOptions {
        timeout: Duration::from_secs(2),
        ..cluster.options()
    };
    let cache = RedisCache::connect(options).await.unwrap();
    for key in [&keys[0], &keys[2]] {
        assert!(cache.set(key, "v".into(), FOR_EVER).await.unwrap());
    }
    assert!(cache.get(&keys[1]).await.unwrap_err().is_temporary());
    for key in [&keys[0], &keys[2]] {
        assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b"v"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_node_that_hangs_are_found_on_the_replica_that_took_over() {
    let Some(cluster) = own().await else { return };
    let Some(replica) = Cluster::node() else { return };
    let (address, bus) = (replica.0.address(), replica.1.to_string());
    let port = address.port().to_string();
    let _: () = ask(cluster.address(0), &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
    let primary: String = ask(cluster.address(1), &["CLUSTER", "MYID"]).await;
    let replicate = eventually(
        "the replica knows its primary",
        Duration::from_secs(60),
        async || {
            let mut command = redis::cmd("CLUSTER");
            command.arg("REPLICATE").arg(&primary);
            command.query_async::<()>(&mut raw(address).await).await
        },
    );
    replicate.await.unwrap();
    let cache = RedisCache::connect(cluster.options()).await.unwrap();
    let key = &cluster.keys().await[1];
    cache.set(key, "v".into(), FOR_EVER).await.unwrap();
    eventually(
        "the replica has the key",
        Duration::from_secs(60),
        async || match ask::<i64>(address, &["DBSIZE"]).await {
            1 => Ok(()),
            size => Err(size),
        },
    )
    .await
    .unwrap();
    cluster.0[1].0.pause();
    let got = eventually(
        "the key is found on the replica",
        Duration::from_secs(30),
        async || cache.get(key).await,
    );
    assert_eq!(got.await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_about_to_move_is_found_on_either_node() {
    let Some(cluster) = own().await else { return };
    let cache = RedisCache::connect(cluster.options()).await.unwrap();
    let key = cluster.keys().await.remove(0);
    let [there, moved, new] = ["there", "moved", "new"].map(|name| format!("{{{key}}}{name}"));
    for key in [&there, &moved] {
        cache.set(key, "v".into(), FOR_EVER).await.unwrap();
    }
    let slot: i64 = ask(cluster.address(0), &["CLUSTER", "KEYSLOT", &key]).await;
    for (node, state, other) in [(2, "IMPORTING", 0), (0, "MIGRATING", 2)] {
        let other: String = ask(cluster.address(other), &["CLUSTER", "MYID"]).await;
        let _: () = ask(
            cluster.address(node),
            &["CLUSTER", "SETSLOT", &slot.to_string(), state, &other],
        )
        .await;
    }
    let to = cluster.address(2);
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let _: () = ask(
        cluster.address(0),
        &["MIGRATE", &host, &port, &moved, "0", "5000"],
    )
    .await;

    for key in [&there, &moved] {
        assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b"v"[..]));
    }
    let ttl = Some(Duration::from_secs(60));
    let adding = (1..=64).map(|_| cache.add(&new, 1, ttl));
    let mut sums: Vec<_> = join_all(adding).await.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=64).collect::<Vec<_>>());
    assert!(cache.delete(&moved).await.unwrap());
    assert_eq!(cache.get(&moved).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_taken_for_a_single_server_is_told() {
    let Some(cluster) = own().await else { return };
    let options = RedisOptions {
        cluster: false,
        nodes: cluster.options().nodes[..1].to_vec(),
        ..cluster.options()
    };
    let cache = RedisCache::connect(options).await.unwrap();
    let error = cache.get(&cluster.keys().await[1]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Permanent, Some(Code::FailedPrecondition))
    );
    assert!(error.to_string().contains("cluster=true"), "{error}");
}

struct Harness;

#[async_trait]
impl CacheHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Cache>> {
        Ok(Arc::new(RedisCache::connect(shared().await).await?))
    }

    fn adapter(&self) -> &'static str {
        "Redis Cluster"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Fixture::Redis)
    }
}

#[async_trait]
impl RegistryHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Registry>> {
        let options = RedisRegistryOptions {
            redis: shared().await,
            ttl: self.time_to_live(),
        };
        Ok(Arc::new(RedisRegistry::connect(options).await?))
    }

    fn adapter(&self) -> &'static str {
        "Redis Cluster"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Fixture::Redis)
    }

    fn time_to_live(&self) -> Duration {
        Duration::from_secs(3)
    }
}

mod cache {
    cqi_testkit::cache_suite!(super::Harness);
}

mod registry {
    cqi_testkit::registry_suite!(super::Harness);
}
