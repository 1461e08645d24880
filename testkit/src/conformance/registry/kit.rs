//! What the cases of this suite are written with.

use std::{sync::Arc, time::Duration};

use cqi_core::registry::{Change, Instance, Registry, ServiceInfo, Watch};
use tokio::time::timeout;
use uuid::Uuid;

use super::RegistryHarness;
use crate::{
    conformance::{Failure, Outcome, Profile, ensure, ensure_eq},
    unique,
};

/// A registry, a service name nobody else uses, and the profile.
pub(super) struct Scene {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) name: String,
    pub(super) profile: Profile,
    pub(super) ttl: Duration,
}

impl Scene {
    pub(super) async fn new<H: RegistryHarness>(h: &H) -> Result<Self, Failure> {
        Ok(Self {
            registry: h.connect().await?,
            name: unique("service"),
            profile: h.profile(),
            ttl: h.time_to_live(),
        })
    }

    /// An instance told apart by its port.
    pub(super) fn info(&self, port: u16) -> ServiceInfo {
        ServiceInfo::new(&self.name, "1.2.3", "localhost", port)
    }

    pub(super) async fn register(&self, port: u16) -> Result<Instance, Failure> {
        Ok(self.registry.register(self.info(port)).await?)
    }

    /// Checks the ids that are discovered, in order.
    pub(super) async fn holds(&self, ids: &[Uuid], when: &str) -> Outcome {
        let seen: Vec<Uuid> = self
            .registry
            .discover(&self.name)
            .await?
            .iter()
            .map(|i| i.id)
            .collect();
        ensure_eq!(seen, ids, "instances {when}");
        Ok(())
    }

    pub(super) async fn watch(&self) -> Result<Watcher, Failure> {
        Ok(Watcher {
            watch: self.registry.watch(&self.name).await?,
            profile: self.profile,
        })
    }
}

/// A running watch.
pub(super) struct Watcher {
    pub(super) watch: Box<dyn Watch>,
    profile: Profile,
}

impl Watcher {
    /// The next change, within the limit.
    pub(super) async fn next(&mut self) -> Result<Change, Failure> {
        match timeout(self.profile.limit, self.watch.next()).await {
            Ok(Some(change)) => Ok(change?),
            Ok(None) => Err(Failure::new("the watch ended early")),
            Err(_) => Err(Failure::new(format!("no change within {:?}", self.profile.limit))),
        }
    }

    pub(super) async fn up(&mut self, instance: &Instance) -> Outcome {
        let change = self.next().await?;
        let same = matches!(&change, Change::Up(seen) if seen == instance);
        ensure!(same, "got {change:?}, expected {instance:?} to be up");
        Ok(())
    }

    pub(super) async fn down(&mut self, id: Uuid) -> Outcome {
        ensure_eq!(self.next().await?, Change::Down(id), "change");
        Ok(())
    }

    /// The next change, or `None` when none comes within the quiet time.
    pub(super) async fn next_if_any(&mut self) -> Result<Option<Change>, Failure> {
        match timeout(self.profile.quiet, self.watch.next()).await {
            Err(_) => Ok(None),
            Ok(Some(change)) => Ok(Some(change?)),
            Ok(None) => Err(Failure::new("the watch ended early")),
        }
    }

    pub(super) async fn nothing(&mut self, why: &str) -> Outcome {
        let came = self.next_if_any().await?;
        ensure!(came.is_none(), "{why}: got {came:?}");
        Ok(())
    }
}
