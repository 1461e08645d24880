//! The registry in this process's memory: for development, tests and services that run alone.

mod watch;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{sync::broadcast, time::Instant};
use uuid::Uuid;

use self::watch::MemoryWatch;
use super::{Change, Instance, Registry, ServiceInfo, Watch};
use crate::{Code, Error, Result, name::check_name};

/// The most instances.
const MAX_INSTANCES: usize = 10_000;
/// How many changes of a name wait for a watcher that is behind.
const MAX_BEHIND: usize = 128;
/// A longer time to live counts as this one.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// A registry in memory (REG-4). Cheap to clone; clones share all.
///
/// It holds at most 10,000 instances; then registering is `Temporary`/`Exhausted`. A watcher that falls more than 128
/// changes behind gets the difference between what it knows and what is there, instead of each change.
#[derive(Clone)]
pub struct MemoryRegistry(Arc<Shared>);

struct Shared {
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Name>,
    /// The name of each instance that was not removed yet.
    ids: HashMap<Uuid, String>,
    closed: bool,
}

#[derive(Default)]
struct Name {
    /// In order of registration.
    records: Vec<Record>,
    /// There while somebody watches.
    changes: Option<broadcast::Sender<Change>>,
}

struct Record {
    instance: Instance,
    deadline: Instant,
}

impl MemoryRegistry {
    /// An empty registry, in which an instance that is not renewed for `ttl` is gone; at least a millisecond, at most
    /// a year.
    pub fn new(ttl: Duration) -> Self {
        Self(Arc::new(Shared {
            ttl: ttl.clamp(Duration::from_millis(1), MAX_TTL),
            state: Mutex::default(),
        }))
    }
}

impl Default for MemoryRegistry {
    /// A time to live of 30 seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegistry")
            .field("ttl", &self.0.ttl)
            .field("instances", &self.0.lock().ids.len())
            .finish()
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn register(&self, info: ServiceInfo) -> Result<Instance> {
        info.validate()?;
        let mut state = self.0.open()?;
        // Changes are told in order, so what has expired goes before what comes.
        state.expire(&info.name);
        if state.ids.len() >= MAX_INSTANCES {
            state.expire_all();
        }
        if state.ids.len() >= MAX_INSTANCES {
            return Err(
                Error::temporary(format!("registry is full: it holds {MAX_INSTANCES} instances"))
                    .with_code(Code::Exhausted),
            );
        }
        let instance = Instance::new(Uuid::now_v7(), Timestamp::now(), info);
        let service = instance.info.name.clone();
        state.ids.insert(instance.id, service.clone());
        let name = state.names.entry(service).or_default();
        name.records.push(Record {
            instance: instance.clone(),
            deadline: Instant::now() + self.0.ttl,
        });
        name.tell(Change::Up(instance.clone()));
        Ok(instance)
    }

    async fn deregister(&self, id: Uuid) -> Result<()> {
        let mut state = self.0.open()?;
        state.live(id)?;
        state.remove(id);
        Ok(())
    }

    async fn heartbeat(&self, id: Uuid) -> Result<()> {
        self.0.open()?.live(id)?.deadline = Instant::now() + self.0.ttl;
        Ok(())
    }

    async fn discover(&self, name: &str) -> Result<Vec<Instance>> {
        let mut state = self.0.open()?;
        check_name(name, "service name")?;
        state.expire(name);
        Ok(state.instances(name))
    }

    async fn watch(&self, name: &str) -> Result<Box<dyn Watch>> {
        let mut state = self.0.open()?;
        check_name(name, "service name")?;
        state.expire(name);
        let changes = state.names.entry(name.to_owned()).or_default();
        let sender = changes
            .changes
            .get_or_insert_with(|| broadcast::Sender::new(MAX_BEHIND));
        let changes = sender.subscribe();
        let snapshot = state.instances(name);
        drop(state);
        Ok(Box::new(MemoryWatch::new(
            Arc::clone(&self.0),
            name,
            changes,
            snapshot,
        )))
    }

    async fn ping(&self) -> Result<()> {
        self.0.open().map(drop)
    }

    async fn close(&self) -> Result<()> {
        // With the names their senders go, which ends the watches.
        *self.0.lock() = State {
            closed: true,
            ..State::default()
        };
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.closed {
            return Err(Error::closed("registry"));
        }
        Ok(state)
    }
}

impl State {
    fn instances(&self, name: &str) -> Vec<Instance> {
        let records = self.names.get(name).map_or(&[][..], |name| &name.records);
        records.iter().map(|record| record.instance.clone()).collect()
    }

    /// When the first instance of `name` expires if it is not renewed.
    fn next_deadline(&self, name: &str) -> Option<Instant> {
        let name = self.names.get(name)?;
        name.records.iter().map(|record| record.deadline).min()
    }

    fn live(&mut self, id: Uuid) -> Result<&mut Record> {
        let not_found = || Error::not_found("service instance", id);
        let name = self.ids.get(&id).ok_or_else(not_found)?.clone();
        self.expire(&name);
        let records = self.names.get_mut(&name).map(|name| &mut name.records);
        records
            .into_iter()
            .flatten()
            .find(|record| record.instance.id == id)
            .ok_or_else(not_found)
    }

    /// Removes what has expired under `name`, in the order in which it did.
    fn expire(&mut self, name: &str) {
        let now = Instant::now();
        let records = self.names.get(name).map_or(&[][..], |name| &name.records);
        let mut dead: Vec<_> = records
            .iter()
            .filter(|record| record.deadline <= now)
            .map(|record| (record.deadline, record.instance.id))
            .collect();
        dead.sort_by_key(|(deadline, _)| *deadline);
        for (_, id) in dead {
            self.remove(id);
        }
    }

    fn expire_all(&mut self) {
        let names: Vec<_> = self.names.keys().cloned().collect();
        for name in names {
            self.expire(&name);
        }
    }

    fn remove(&mut self, id: Uuid) {
        let Some(service) = self.ids.remove(&id) else {
            return;
        };
        if let Some(name) = self.names.get_mut(&service) {
            name.records.retain(|record| record.instance.id != id);
            name.tell(Change::Down(id));
        }
        self.forget_if_unused(&service);
    }

    /// Drops a name without instances and watchers (REG-8).
    fn forget_if_unused(&mut self, service: &str) {
        let unused = self.names.get(service).is_some_and(|name| {
            let watchers = name.changes.as_ref().map_or(0, broadcast::Sender::receiver_count);
            name.records.is_empty() && watchers == 0
        });
        if unused {
            self.names.remove(service);
        }
    }
}

impl Name {
    fn tell(&self, change: Change) {
        if let Some(changes) = &self.changes {
            let _ = changes.send(change); // nobody watches any more
        }
    }
}

#[cfg(test)]
mod tests;
