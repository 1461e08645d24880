//! A cache that fails on demand, for the tests of this folder.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Cache, Capabilities, MemoryCache, SetOptions};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Faulty {
    cache: MemoryCache,
    faults: Mutex<HashMap<&'static str, Error>>,
    calls: Mutex<Vec<&'static str>>,
    hangs: AtomicBool,
}

const METHODS: [&str; 7] = ["get", "set", "delete", "exists", "add", "ping", "close"];

impl Faulty {
    pub(super) fn new(cache: MemoryCache) -> Self {
        Self {
            cache,
            faults: Mutex::default(),
            calls: Mutex::default(),
            hangs: AtomicBool::new(false),
        }
    }

    /// From now on `method` fails with `error` and has no effect; `None` mends it.
    pub(super) fn fail(&self, method: &'static str, error: Option<Error>) {
        let mut faults = self.faults.lock().unwrap();
        match error {
            Some(error) => faults.insert(method, error),
            None => faults.remove(method),
        };
    }

    pub(super) fn fail_all(&self, error: Option<&Error>) {
        METHODS
            .into_iter()
            .for_each(|method| self.fail(method, error.cloned()));
    }

    pub(super) fn hang(&self) {
        self.hangs.store(true, Ordering::Release);
    }

    /// How often `method` was called.
    pub(super) fn calls(&self, method: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| **call == method).count()
    }

    async fn pass<T>(&self, method: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.calls.lock().unwrap().push(method);
        if self.hangs.load(Ordering::Acquire) {
            pending::<()>().await;
        }
        let fault = self.faults.lock().unwrap().get(method).cloned();
        match fault {
            Some(error) => Err(error),
            None => call.await,
        }
    }
}

#[async_trait]
impl Cache for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.cache.capabilities()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.pass("get", self.cache.get(key)).await
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        self.pass("set", self.cache.set(key, value, options)).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.pass("delete", self.cache.delete(key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.pass("exists", self.cache.exists(key)).await
    }

    async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.pass("add", self.cache.add(key, delta, ttl)).await
    }

    async fn ping(&self) -> Result<()> {
        self.pass("ping", self.cache.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.pass("close", self.cache.close()).await
    }
}
