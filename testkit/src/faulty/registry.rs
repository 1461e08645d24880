//! A registry with faults.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Result,
    registry::{Change, Instance, Registry, ServiceInfo, Watch},
};
use uuid::Uuid;

use super::Faults;

/// A [`Registry`] with faults.
#[derive(Debug)]
pub struct FaultyRegistry {
    inner: Arc<dyn Registry>,
    faults: Faults,
}

impl FaultyRegistry {
    /// Puts faults around a registry.
    pub fn new(inner: Arc<dyn Registry>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Registry for FaultyRegistry {
    async fn register(&self, info: ServiceInfo) -> Result<Instance> {
        let name = info.name.clone();
        self.faults.run("register", name, self.inner.register(info)).await
    }

    async fn deregister(&self, id: Uuid) -> Result<()> {
        self.faults
            .run("deregister", id.to_string(), self.inner.deregister(id))
            .await
    }

    async fn heartbeat(&self, id: Uuid) -> Result<()> {
        self.faults
            .run("heartbeat", id.to_string(), self.inner.heartbeat(id))
            .await
    }

    async fn discover(&self, name: &str) -> Result<Vec<Instance>> {
        self.faults.run("discover", name, self.inner.discover(name)).await
    }

    async fn watch(&self, name: &str) -> Result<Box<dyn Watch>> {
        let inner = self.faults.run("watch", name, self.inner.watch(name)).await?;
        Ok(Box::new(FaultyWatch {
            inner,
            name: name.to_owned(),
            faults: self.faults.clone(),
        }))
    }

    async fn ping(&self) -> Result<()> {
        self.faults.run("ping", "", self.inner.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.faults.run("close", "", self.inner.close()).await
    }
}

#[derive(Debug)]
struct FaultyWatch {
    inner: Box<dyn Watch>,
    name: String,
    faults: Faults,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Watch for FaultyWatch {
    async fn next(&mut self) -> Option<Result<Change>> {
        let real = async { self.inner.next().await.transpose() };
        self.faults
            .run("changes", self.name.as_str(), real)
            .await
            .transpose()
    }
}
