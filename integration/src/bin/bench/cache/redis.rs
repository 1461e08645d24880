//! The cache on Redis beside both connections of its client, each of which all tasks share.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cqi_core::cache::Cache as _;
use cqi_redis::{RedisCache, RedisOptions};
use cqi_testkit::fixture::Kind;
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo, aio::ConnectionManagerConfig,
    io::tcp::TcpSettings,
};

use super::{CASES, Cqi, Loader, Run, SIZE, Store, TTL, fill, keys};
use crate::{report::Report, servers};

/// How long a call may last; the adapter's default.
const TIMEOUT: Duration = Duration::from_secs(5);

const MANAGER: &str = "redis-rs manager";
const MULTIPLEXED: &str = "redis-rs multiplexed";

/// A connection that is cloned for each call, as it is meant to be.
struct Bare<C>(C);

impl<C: AsyncCommands + Clone + Send + Sync + 'static> Store for Bare<C> {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let got: Option<Vec<u8>> = self.0.clone().get(key).await.expect("an answer");
        got.map(Bytes::from)
    }

    async fn set(&self, key: &str, value: Bytes) {
        let set = self.0.clone().set_ex(key, &value[..], TTL.as_secs()).await;
        let () = set.expect("an answer");
    }

    async fn get_or_load(&self, key: &str, load: Loader) -> Bytes {
        if let Some(value) = Store::get(self, key).await {
            return value;
        }
        let value = load.load();
        Store::set(self, key, value.clone()).await;
        value
    }
}

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    let Some(url) = servers::url(report, Kind::Redis) else {
        return;
    };
    let options = RedisOptions::from_url(&url).expect("a valid URL");
    let cache = RedisCache::connect(options).await.expect("a connection");
    let cqi = Cqi::new(Arc::new(cache.clone()));
    // As the adapter: a command does not wait for the kernel to have more to send.
    let info = url.into_connection_info().expect("a valid URL");
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = Client::open(info).expect("a valid URL");
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(TIMEOUT));
    let manager = client.get_connection_manager_with_config(config).await;
    let manager = Arc::new(Bare(manager.expect("a connection")));
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
    let multiplexed = client.get_multiplexed_async_connection_with_config(&config).await;
    let multiplexed = Arc::new(Bare(multiplexed.expect("a connection")));
    let keys = keys("cqi-bench");
    for peer in report.peers(&["cqi", MANAGER, MULTIPLEXED]) {
        match peer {
            "cqi" => fill(&cqi, &keys).await,
            MANAGER => fill(&manager, &keys).await,
            _ => fill(&multiplexed, &keys).await,
        }
    }
    for (case, _) in CASES {
        for (tasks, total) in [(1, report.count(8_000)), (64, report.count(60_000))] {
            let run = Run { case, tasks, total };
            let name = run.name();
            for peer in report.peers(&["cqi", MANAGER, MULTIPLEXED]) {
                if tasks > 1 {
                    let took = match peer {
                        "cqi" => run.time(&cqi, &keys).await,
                        MANAGER => run.time(&manager, &keys).await,
                        _ => run.time(&multiplexed, &keys).await,
                    };
                    report.rate(&name, peer, SIZE, total, took);
                    continue;
                }
                let (took, mut nanos) = match peer {
                    "cqi" => run.time_each(&cqi, &keys).await,
                    MANAGER => run.time_each(&manager, &keys).await,
                    _ => run.time_each(&multiplexed, &keys).await,
                };
                report.rate(&name, peer, SIZE, total, took);
                report.latency(&name, peer, SIZE, 99, &mut nanos);
            }
            report.as_good_as(&name, SIZE, MANAGER);
        }
    }
    cache.close().await.expect("a cache that closes");
    report.note("10,000 keys, time to live 600 s; each peer has one connection, which its tasks share");
}
