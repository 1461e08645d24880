//! The cache in memory beside moka and a plain concurrent map, which knows no time to live.

use std::sync::Arc;

use bytes::Bytes;
use cqi_core::cache::MemoryCache;

use super::{CASES, Case, Cqi, Loader, Run, SIZE, Store, TTL, fill, keys};
use crate::report::{Report, Target};

const CAPACITY: u64 = 100_000;

const PEERS: [&str; 3] = ["cqi", "moka", "dashmap"];

type Moka = moka::future::Cache<String, Bytes>;

impl Store for Moka {
    async fn get(&self, key: &str) -> Option<Bytes> {
        Self::get(self, key).await
    }

    async fn set(&self, key: &str, value: Bytes) {
        self.insert(key.to_owned(), value).await;
    }

    async fn get_or_load(&self, key: &str, load: Loader) -> Bytes {
        self.get_with_by_ref(key, async move { load.load() }).await
    }
}

type Dashmap = dashmap::DashMap<String, Bytes>;

impl Store for Dashmap {
    async fn get(&self, key: &str) -> Option<Bytes> {
        Self::get(self, key).map(|value| value.clone())
    }

    async fn set(&self, key: &str, value: Bytes) {
        self.insert(key.to_owned(), value);
    }

    async fn get_or_load(&self, key: &str, load: Loader) -> Bytes {
        if let Some(value) = Self::get(self, key) {
            return value.clone();
        }
        let value = load.load();
        self.insert(key.to_owned(), value.clone());
        value
    }
}

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    let cqi = Cqi::new(Arc::new(MemoryCache::default()));
    let moka = Arc::new(Moka::builder().max_capacity(CAPACITY).time_to_live(TTL).build());
    let dashmap = Arc::new(Dashmap::new());
    let keys = keys("bench");
    for peer in report.peers(&PEERS) {
        match peer {
            "cqi" => fill(&cqi, &keys).await,
            "moka" => fill(&moka, &keys).await,
            _ => fill(&dashmap, &keys).await,
        }
    }
    let total = report.count(500_000);
    for (case, _) in CASES {
        for tasks in [1, 64] {
            let run = Run { case, tasks, total };
            let name = run.name();
            for peer in report.peers(&PEERS) {
                let took = match peer {
                    "cqi" => run.time(&cqi, &keys).await,
                    "moka" => run.time(&moka, &keys).await,
                    _ => run.time(&dashmap, &keys).await,
                };
                report.rate(&name, peer, SIZE, total, took);
            }
            if case != Case::GetOrLoad {
                report.target(&name, SIZE, "op/s", Target::AtLeast(2.0, "moka"));
            }
        }
    }
    report.note("10,000 keys, time to live 600 s; dashmap neither expires nor evicts");
}
