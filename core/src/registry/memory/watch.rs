//! A running watch on the memory registry.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::Shared;
use crate::{
    Result,
    registry::{Change, Instance, Watch},
};

/// How long a watcher of a name without instances sleeps; nothing can expire then.
const LONG: Duration = Duration::from_secs(3600);

pub(super) struct MemoryWatch {
    shared: Arc<Shared>,
    name: String,
    changes: broadcast::Receiver<Change>,
    /// What comes before `changes`: the first snapshot, or the difference after falling behind.
    pending: VecDeque<Change>,
    /// The instances told as up.
    known: BTreeSet<Uuid>,
}

impl MemoryWatch {
    /// `changes` must begin where `snapshot` was taken.
    pub(super) fn new(
        shared: Arc<Shared>,
        name: &str,
        changes: broadcast::Receiver<Change>,
        snapshot: Vec<Instance>,
    ) -> Self {
        Self {
            shared,
            name: name.to_owned(),
            changes,
            pending: snapshot.into_iter().map(Change::Up).collect(),
            known: BTreeSet::new(),
        }
    }

    /// Removes what has expired, since nobody else may be there to do it, and says when to look again.
    fn expire(&self) -> Instant {
        let mut state = self.shared.lock();
        state.expire(&self.name);
        state
            .next_deadline(&self.name)
            .unwrap_or_else(|| Instant::now() + LONG)
    }

    /// Goes on from the present state after too many changes were missed.
    fn catch_up(&mut self) {
        let shared = Arc::clone(&self.shared);
        let state = shared.lock();
        let there = state.instances(&self.name);
        // Changes are told under this lock, so they go on exactly where `there` was taken.
        self.changes = self.changes.resubscribe();
        drop(state);
        let ids: BTreeSet<_> = there.iter().map(|instance| instance.id).collect();
        self.pending
            .extend(self.known.difference(&ids).copied().map(Change::Down));
        let new = there
            .into_iter()
            .filter(|instance| !self.known.contains(&instance.id));
        self.pending.extend(new.map(Change::Up));
    }

    fn note(&mut self, change: Change) -> Option<Result<Change>> {
        match &change {
            Change::Up(instance) => self.known.insert(instance.id),
            Change::Down(id) => self.known.remove(id),
        };
        Some(Ok(change))
    }
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Option<Result<Change>> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return self.note(change);
            }
            let wake = self.expire();
            match timeout_at(wake, self.changes.recv()).await {
                Ok(Ok(change)) => return self.note(change),
                Ok(Err(RecvError::Lagged(missed))) => {
                    tracing::debug!(service = self.name, missed, "registry watcher fell behind");
                    self.catch_up();
                }
                Ok(Err(RecvError::Closed)) => return None,
                Err(_elapsed) => {}
            }
        }
    }
}

impl fmt::Debug for MemoryWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryWatch")
            .field("name", &self.name)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        // This watcher must not count any more when the name is looked at.
        self.changes = broadcast::Sender::new(1).subscribe();
        state.forget_if_unused(&self.name);
    }
}
