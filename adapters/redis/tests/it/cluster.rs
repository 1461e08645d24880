//! Both suites on a cluster of three, and its own faults.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{Result, cache::Cache, registry::Registry};
use cqi_redis::{RedisCache, RedisOptions, RedisRegistry, RedisRegistryOptions};
use cqi_testkit::{
    conformance::{Profile, cache::CacheHarness, registry::RegistryHarness},
    eventually,
    fixture::{self, Kind, Options, Server},
    unique,
};
use tokio::sync::OnceCell;

use crate::kit::{FOR_EVER, ask, options};

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
        Some((fixture::start(Kind::Redis, &options).ok()?, bus))
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
    if let Some(why) = fixture::missing(Kind::Redis) {
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
        fixture::missing(Kind::Redis)
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
        fixture::missing(Kind::Redis)
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
