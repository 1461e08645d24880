//! One load under way for each key, on a task of its own.

use std::{
    collections::{HashMap, hash_map},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::Instrument as _;

use crate::{
    Code, Error, Result,
    cache::{Cache, SetOptions},
    event::Payload,
    name::shown,
};

type Outcome = Option<Result<Bytes>>;

/// The loads under way.
#[derive(Debug)]
pub(super) struct Flights {
    sky: Arc<Sky>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    token: CancellationToken,
    /// Ends the tasks when the last owner is gone; nobody can be waiting then.
    _guard: DropGuard,
}

/// What the tasks share with their owner.
#[derive(Debug, Default)]
struct Sky {
    flights: Mutex<HashMap<Arc<str>, watch::Receiver<Outcome>>>,
    landed: AtomicU64,
}

impl Sky {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, watch::Receiver<Outcome>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flights {
    pub(super) fn new(max_loads: usize) -> Self {
        let token = CancellationToken::new();
        Self {
            sky: Arc::default(),
            slots: Arc::new(Semaphore::new(max_loads.clamp(1, Semaphore::MAX_PERMITS))),
            tasks: TaskTracker::new(),
            token: token.clone(),
            _guard: token.drop_guard(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sky.lock().len()
    }

    /// How many loads have ended. When this moves after a miss, the value may be there by now.
    pub(super) fn landed(&self) -> u64 {
        self.sky.landed.load(Ordering::Acquire)
    }

    /// The load of this key that is under way, if any.
    pub(super) fn of(&self, key: &str) -> Option<Flight> {
        self.sky.lock().get(key).map(|flight| Flight(flight.clone()))
    }

    /// Joins the load of this key, or starts it. Waits while too many others run.
    pub(super) async fn join<T, F, Fut>(&self, load: Load, loader: F) -> Result<Flight>
    where
        T: Payload,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        if let Some(flight) = self.sky.lock().get(&load.key) {
            return Ok(Flight(flight.clone()));
        }
        let slots = Arc::clone(&self.slots);
        let slot = slots
            .acquire_owned()
            .await
            .map_err(|_| Error::closed("read-through cache"))?;
        let (told, flight) = watch::channel(None);
        let mut flights = self.sky.lock();
        // Closing takes the same lock, so no load starts behind its back.
        if self.tasks.is_closed() {
            return Err(Error::closed("read-through cache"));
        }
        match flights.entry(Arc::clone(&load.key)) {
            hash_map::Entry::Occupied(other) => return Ok(Flight(other.get().clone())),
            hash_map::Entry::Vacant(place) => place.insert(flight.clone()),
        };
        // A load that ended since this caller's miss may have stored the value.
        let look_again = load.missed_at.is_some_and(|landed| landed != self.landed());
        drop(flights);
        let landing = Landing {
            sky: Arc::clone(&self.sky),
            key: Arc::clone(&load.key),
        };
        let token = self.token.clone();
        let task = async move {
            let _slot = slot;
            let run = AssertUnwindSafe(load.run(look_again, loader)).catch_unwind();
            let outcome = token.run_until_cancelled(run).await;
            // Off the list before anybody hears of it: who comes later looks into the cache.
            drop(landing);
            if let Some(outcome) = outcome {
                told.send_replace(Some(
                    outcome.unwrap_or_else(|_| Err(Error::panicked("cache loader"))),
                ));
            }
        };
        self.tasks.spawn(task.in_current_span());
        Ok(Flight(flight))
    }

    pub(super) async fn close(&self) {
        {
            let _no_start = self.sky.lock();
            self.tasks.close();
            self.slots.close();
        }
        self.tasks.wait().await;
    }
}

/// A seat on a load.
#[derive(Debug)]
pub(super) struct Flight(watch::Receiver<Outcome>);

impl Flight {
    pub(super) async fn result(mut self) -> Result<Bytes> {
        let outcome = self.0.wait_for(Option::is_some).await;
        outcome
            .ok()
            .and_then(|outcome| outcome.clone())
            .unwrap_or_else(|| {
                Err(Error::temporary("cache load was cut off by the runtime's end")
                    .with_code(Code::Cancelled))
            })
    }
}

/// Takes a load off the list however it ends: done, panicked or dropped with its runtime.
struct Landing {
    sky: Arc<Sky>,
    key: Arc<str>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.sky.lock();
        flights.remove(&self.key);
        self.sky.landed.fetch_add(1, Ordering::Release);
    }
}

/// What one load is to do.
pub(super) struct Load {
    pub(super) cache: Arc<dyn Cache>,
    pub(super) key: Arc<str>,
    pub(super) ttl: Duration,
    pub(super) limit: Duration,
    /// How many loads had ended before this caller's miss; `None` when the cache did not answer.
    pub(super) missed_at: Option<u64>,
}

impl Load {
    async fn run<T, F, Fut>(self, look_again: bool, loader: F) -> Result<Bytes>
    where
        T: Payload,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<T>> + Send,
    {
        let loaded = timeout(self.limit, async {
            if look_again
                && let Ok(Some(bytes)) = self.cache.get(&self.key).await
                && T::decode(&bytes).is_ok()
            {
                return Ok((bytes, false));
            }
            Ok((loader().await?.encode()?, true))
        })
        .await;
        let (bytes, is_new) =
            loaded.unwrap_or_else(|_| Err(Error::timeout(self.limit).with_operation("cache.load")))?;
        if is_new {
            self.store(bytes.clone()).await;
        }
        Ok(bytes)
    }

    /// Stores what was loaded. A failure is the next reader's loss, not this one's (CCH-13).
    async fn store(&self, bytes: Bytes) {
        let set = self.cache.set(&self.key, bytes, SetOptions::ttl(self.ttl));
        let result = timeout(self.limit, set)
            .await
            .unwrap_or_else(|_| Err(Error::timeout(self.limit).with_operation("cache.set")));
        if let Err(error) = result {
            tracing::warn!(key = shown(&self.key), error = %error.chain(), "storing a loaded value in the cache failed");
        }
    }
}
