//! A registry that fails on demand, for the tests of this folder.

use std::{
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Instance, MemoryRegistry, Registry, ServiceInfo, Watch};
use crate::{Error, Result};

#[derive(Debug, Default)]
pub(super) struct Faulty {
    pub(super) registry: MemoryRegistry,
    fault: Mutex<Option<Error>>,
    lost_replies: Mutex<u32>,
    hangs: AtomicBool,
    calls: Mutex<Vec<&'static str>>,
}

impl Faulty {
    /// From now on every call fails with `error` and has no effect; `None` mends it.
    pub(super) fn fail(&self, error: Option<Error>) {
        *self.fault.lock().unwrap() = error;
    }

    /// The next call takes effect, but its reply is lost.
    pub(super) fn lose_a_reply(&self) {
        *self.lost_replies.lock().unwrap() += 1;
    }

    pub(super) fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Release);
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
        let fault = self.fault.lock().unwrap().clone();
        if let Some(error) = fault {
            return Err(error);
        }
        let result = call.await;
        let mut lost = self.lost_replies.lock().unwrap();
        if *lost > 0 {
            *lost -= 1;
            return Err(Error::temporary("cut off").maybe_applied());
        }
        result
    }
}

#[async_trait]
impl Registry for Faulty {
    async fn register(&self, info: ServiceInfo) -> Result<Instance> {
        self.pass("register", self.registry.register(info)).await
    }

    async fn deregister(&self, id: Uuid) -> Result<()> {
        self.pass("deregister", self.registry.deregister(id)).await
    }

    async fn heartbeat(&self, id: Uuid) -> Result<()> {
        self.pass("heartbeat", self.registry.heartbeat(id)).await
    }

    async fn discover(&self, name: &str) -> Result<Vec<Instance>> {
        self.pass("discover", self.registry.discover(name)).await
    }

    async fn watch(&self, name: &str) -> Result<Box<dyn Watch>> {
        self.pass("watch", self.registry.watch(name)).await
    }

    async fn ping(&self) -> Result<()> {
        self.pass("ping", self.registry.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.pass("close", self.registry.close()).await
    }
}
