//! A cache with faults.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cqi_core::{
    Result,
    cache::{Cache, Capabilities, SetOptions},
};

use super::Faults;

/// A [`Cache`] with faults.
#[derive(Debug)]
pub struct FaultyCache {
    inner: Arc<dyn Cache>,
    faults: Faults,
}

impl FaultyCache {
    /// Puts faults around a cache.
    pub fn new(inner: Arc<dyn Cache>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Cache for FaultyCache {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.faults.run("get", key, self.inner.get(key)).await
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        self.faults
            .run("set", key, self.inner.set(key, value, options))
            .await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.faults.run("delete", key, self.inner.delete(key)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.faults.run("exists", key, self.inner.exists(key)).await
    }

    async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.faults.run("add", key, self.inner.add(key, delta, ttl)).await
    }

    async fn ping(&self) -> Result<()> {
        self.faults.run("ping", "", self.inner.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.faults.run("close", "", self.inner.close()).await
    }
}
