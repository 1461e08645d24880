//! The cache in memory, through its port, beside moka and a plain concurrent map (which knows no time to live).

use std::{
    future::{Future, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use cqi_core::{
    Result,
    cache::{Cache, MemoryCache, ReadThrough, SetOptions},
    event::Payload,
};

use crate::{
    measure::{Clock, Took, drive, number, payload},
    report::{Report, Target},
};

const SIZE: usize = 256;
const KEYS: usize = 10_000;
const CAPACITY: u64 = 100_000;
const TTL: Duration = Duration::from_secs(600);

const PEERS: [&str; 3] = ["cqi", "moka", "dashmap"];

/// What is done to a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Get,
    Set,
    /// The value is there: it must not be loaded.
    GetOrLoad,
}

const CASES: [(Case, &str); 3] = [
    (Case::Get, "get"),
    (Case::Set, "set"),
    (Case::GetOrLoad, "get_or_load hit"),
];

trait Store: Send + Sync + 'static {
    fn get(&self, key: &str) -> impl Future<Output = Option<Bytes>> + Send;
    fn set(&self, key: &str, value: Bytes) -> impl Future<Output = ()> + Send;
    fn get_or_load(&self, key: &str, load: Loader) -> impl Future<Output = Bytes> + Send;
}

/// Loads a value, and counts that.
#[derive(Debug, Clone)]
struct Loader {
    key: usize,
    loads: Arc<AtomicUsize>,
}

impl Loader {
    fn load(&self) -> Bytes {
        self.loads.fetch_add(1, Relaxed);
        payload(self.key, SIZE)
    }
}

/// Bytes that are their own encoded form.
struct Raw(Bytes);

impl Payload for Raw {
    const CONTENT_TYPE: &'static str = "application/octet-stream";

    fn encode(&self) -> Result<Bytes> {
        Ok(self.0.clone())
    }

    fn decode(bytes: &Bytes) -> Result<Self> {
        Ok(Self(bytes.clone()))
    }
}

struct Cqi {
    cache: Arc<dyn Cache>,
    reading: ReadThrough,
}

impl Store for Cqi {
    async fn get(&self, key: &str) -> Option<Bytes> {
        self.cache.get(key).await.expect("an open cache")
    }

    async fn set(&self, key: &str, value: Bytes) {
        let set = self.cache.set(key, value, SetOptions::ttl(TTL)).await;
        assert!(set.expect("an open cache"));
    }

    async fn get_or_load(&self, key: &str, load: Loader) -> Bytes {
        let load = move || ready(Ok(Raw(load.load())));
        self.reading
            .get_or_load(key, TTL, load)
            .await
            .expect("an open cache")
            .0
    }
}

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
    let cache: Arc<dyn Cache> = Arc::new(MemoryCache::default());
    let reading = ReadThrough::new(Arc::clone(&cache));
    let cqi = Arc::new(Cqi { cache, reading });
    let moka = Arc::new(Moka::builder().max_capacity(CAPACITY).time_to_live(TTL).build());
    let dashmap = Arc::new(Dashmap::new());
    let keys: Arc<[String]> = (0..KEYS).map(|i| format!("bench:{i}")).collect();
    for peer in report.peers(&PEERS) {
        match peer {
            "cqi" => fill(&cqi, &keys).await,
            "moka" => fill(&moka, &keys).await,
            _ => fill(&dashmap, &keys).await,
        }
    }
    let total = report.count(500_000);
    for (case, name) in CASES {
        for tasks in [1, 64] {
            let named = format!("{name} x{tasks}");
            for peer in report.peers(&PEERS) {
                let took = match peer {
                    "cqi" => run(&cqi, &keys, case, tasks, total).await,
                    "moka" => run(&moka, &keys, case, tasks, total).await,
                    _ => run(&dashmap, &keys, case, tasks, total).await,
                };
                report.rate(&named, peer, SIZE, total, took);
            }
            if case != Case::GetOrLoad {
                report.target(&named, SIZE, "op/s", Target::AtLeast(2.0, "moka"));
            }
        }
    }
    report.note("10,000 keys, time to live 600 s; dashmap neither expires nor evicts");
}

async fn fill<S: Store>(store: &Arc<S>, keys: &Arc<[String]>) {
    run(store, keys, Case::Set, 64, KEYS).await;
    run(store, keys, Case::Get, 64, KEYS).await;
    store.set(&keys[0], payload(1, SIZE)).await;
    let seen = store.get(&keys[0]).await.expect("what was just set");
    assert_eq!(number(&seen, SIZE), 1, "a set was not seen");
    store.set(&keys[0], payload(0, SIZE)).await;
}

async fn run<S: Store>(store: &Arc<S>, keys: &Arc<[String]>, case: Case, tasks: usize, total: usize) -> Took {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let (store, keys) = (Arc::clone(store), Arc::clone(keys));
    let call = move |i: usize| {
        let (store, keys, loads, key) = (
            Arc::clone(&store),
            Arc::clone(&keys),
            Arc::clone(&counted),
            i % KEYS,
        );
        async move {
            let got = match case {
                Case::Get => store.get(&keys[key]).await,
                Case::Set => return store.set(&keys[key], payload(key, SIZE)).await,
                Case::GetOrLoad => Some(store.get_or_load(&keys[key], Loader { key, loads }).await),
            };
            assert_eq!(number(&got.expect("a hit"), SIZE), key);
        }
    };
    let clock = Clock::start();
    drive(tasks, total, call).await;
    let took = clock.stop();
    assert_eq!(loads.load(Relaxed), 0, "a value that was there was loaded");
    took
}
