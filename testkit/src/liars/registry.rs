//! Registries that lie.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    registry::{Change, Instance, Registry, ServiceInfo, Watch},
};
use uuid::Uuid;

use super::lies;

lies! {
    /// What a registry can lie about.
    RegistryLie {
        /// Instances that are not renewed stay.
        NeverExpires => an_instance_that_is_not_renewed_is_gone,
        /// A heartbeat of nobody is `Ok`.
        HeartbeatsAnything => an_unknown_id_is_not_found,
        /// Every second change is not told.
        DropsChanges => a_watch_tells_each_change_once_in_order,
        /// Every change is told twice.
        RepeatsChanges => a_watch_tells_each_change_once_in_order,
        /// A watch does not tell of those that are there already.
        HasNoSnapshot => a_watch_starts_with_what_is_there,
        /// An unknown name is an error.
        UnknownIsAnError => an_unknown_name_gives_an_empty_list,
        /// A name that nobody can register is just unknown.
        FindsAnyName => an_unknown_name_gives_an_empty_list,
        /// Instances are listed the last one first.
        TurnsTheListRound => instances_come_in_order_of_registration,
        /// Information is not kept whole.
        ForgetsMetadata => a_registered_instance_is_discovered_whole,
        /// After `close` everything goes on.
        StaysOpen => close_is_idempotent_and_final,
    }
}

/// Makes a liar of an honest registry.
pub fn lying_registry(inner: Arc<dyn Registry>, lie: RegistryLie) -> Arc<dyn Registry> {
    Arc::new(Liar {
        inner,
        lie,
        registered: Mutex::default(),
    })
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn Registry>,
    lie: RegistryLie,
    /// What was registered and not deregistered.
    registered: Mutex<Vec<Instance>>,
}

impl Liar {
    fn registered(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Registry for Liar {
    async fn register(&self, mut info: ServiceInfo) -> Result<Instance> {
        if self.lie == RegistryLie::ForgetsMetadata {
            info.metadata.clear();
        }
        let instance = self.inner.register(info).await?;
        self.registered().push(instance.clone());
        Ok(instance)
    }

    async fn deregister(&self, id: Uuid) -> Result<()> {
        self.registered().retain(|instance| instance.id != id);
        self.inner.deregister(id).await
    }

    async fn heartbeat(&self, id: Uuid) -> Result<()> {
        match self.inner.heartbeat(id).await {
            Err(error) if error.is_not_found() && self.lie == RegistryLie::HeartbeatsAnything => Ok(()),
            answer => answer,
        }
    }

    async fn discover(&self, name: &str) -> Result<Vec<Instance>> {
        let mut instances = match self.inner.discover(name).await {
            Err(error) if error.is_invalid_input() && self.lie == RegistryLie::FindsAnyName => Vec::new(),
            answer => answer?,
        };
        match self.lie {
            RegistryLie::NeverExpires => {
                let all = self.registered();
                instances = all
                    .iter()
                    .filter(|instance| instance.info.name == name)
                    .cloned()
                    .collect();
            }
            RegistryLie::UnknownIsAnError if instances.is_empty() => {
                return Err(Error::not_found("service", name));
            }
            RegistryLie::TurnsTheListRound => instances.reverse(),
            _ => {}
        }
        Ok(instances)
    }

    async fn watch(&self, name: &str) -> Result<Box<dyn Watch>> {
        let there = self.inner.discover(name).await?.len();
        let mut inner = self.inner.watch(name).await?;
        if self.lie == RegistryLie::HasNoSnapshot {
            for _ in 0..there {
                inner.next().await;
            }
        }
        Ok(Box::new(LyingWatch {
            inner,
            lie: self.lie,
            count: 0,
            again: VecDeque::new(),
        }))
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<()> {
        if self.lie == RegistryLie::StaysOpen {
            Ok(())
        } else {
            self.inner.close().await
        }
    }
}

#[derive(Debug)]
struct LyingWatch {
    inner: Box<dyn Watch>,
    lie: RegistryLie,
    count: usize,
    again: VecDeque<Change>,
}

#[async_trait]
impl Watch for LyingWatch {
    async fn next(&mut self) -> Option<Result<Change>> {
        if let Some(change) = self.again.pop_front() {
            return Some(Ok(change));
        }
        let mut change = self.inner.next().await?;
        self.count += 1;
        match (&change, self.lie) {
            (Ok(change), RegistryLie::RepeatsChanges) => self.again.push_back(change.clone()),
            (Ok(_), RegistryLie::DropsChanges) if self.count.is_multiple_of(2) => {
                change = self.inner.next().await?
            }
            _ => {}
        }
        Some(change)
    }
}
