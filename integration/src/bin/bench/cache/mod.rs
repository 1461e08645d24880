//! Caches through their port beside what is used without it: in memory, and on Redis.

mod memory;
mod redis;

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
    cache::{Cache, ReadThrough, SetOptions},
    event::Payload,
};

pub(crate) use self::{memory::round as memory, redis::round as redis};
use crate::measure::{Clock, Took, drive, number, payload, sequential};

const SIZE: usize = 256;
const KEYS: usize = 10_000;
const TTL: Duration = Duration::from_secs(600);

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

impl Cqi {
    fn new(cache: Arc<dyn Cache>) -> Arc<Self> {
        let reading = ReadThrough::new(Arc::clone(&cache));
        Arc::new(Self { cache, reading })
    }
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

fn keys(prefix: &str) -> Arc<[String]> {
    (0..KEYS).map(|i| format!("{prefix}:{i}")).collect()
}

async fn fill<S: Store>(store: &Arc<S>, keys: &Arc<[String]>) {
    for case in [Case::Set, Case::Get] {
        let run = Run {
            case,
            tasks: 64,
            total: KEYS,
        };
        run.time(store, keys).await;
    }
    store.set(&keys[0], payload(1, SIZE)).await;
    let seen = store.get(&keys[0]).await.expect("what was just set");
    assert_eq!(number(&seen, SIZE), 1, "a set was not seen");
    store.set(&keys[0], payload(0, SIZE)).await;
}

/// A case, from how many tasks at once, and how often.
#[derive(Debug, Clone, Copy)]
struct Run {
    case: Case,
    tasks: usize,
    total: usize,
}

impl Run {
    /// The case's name in the figures.
    fn name(self) -> String {
        let name = CASES.into_iter().find(|(case, _)| *case == self.case);
        format!("{} x{}", name.map_or("", |(_, name)| name), self.tasks)
    }

    /// How long it took altogether.
    async fn time<S: Store>(self, store: &Arc<S>, keys: &Arc<[String]>) -> Took {
        let calls = Calls::new(store, keys, self.case);
        let call = {
            let calls = Arc::clone(&calls);
            move |i| Arc::clone(&calls).call(i)
        };
        let clock = Clock::start();
        drive(self.tasks, self.total, call).await;
        let took = clock.stop();
        calls.check();
        took
    }

    /// How long it took altogether, and how long each call, for calls that take long enough to be timed.
    async fn time_each<S: Store>(self, store: &Arc<S>, keys: &Arc<[String]>) -> (Took, Vec<u64>) {
        let calls = Calls::new(store, keys, self.case);
        let timed = sequential(self.total, |i| Arc::clone(&calls).call(i)).await;
        calls.check();
        timed
    }
}

/// The calls of a case. What they answer is checked.
struct Calls<S> {
    store: Arc<S>,
    keys: Arc<[String]>,
    case: Case,
    loads: Arc<AtomicUsize>,
}

impl<S: Store> Calls<S> {
    fn new(store: &Arc<S>, keys: &Arc<[String]>, case: Case) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            keys: Arc::clone(keys),
            case,
            loads: Arc::default(),
        })
    }

    async fn call(self: Arc<Self>, i: usize) {
        let (store, index) = (&self.store, i % KEYS);
        let key = &self.keys[index];
        let got = match self.case {
            Case::Get => store.get(key).await,
            Case::Set => return store.set(key, payload(index, SIZE)).await,
            Case::GetOrLoad => {
                let loads = Arc::clone(&self.loads);
                Some(store.get_or_load(key, Loader { key: index, loads }).await)
            }
        };
        assert_eq!(number(&got.expect("a hit"), SIZE), index);
    }

    fn check(&self) {
        assert_eq!(self.loads.load(Relaxed), 0, "a value that was there was loaded");
    }
}
