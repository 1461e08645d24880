//! A running watch.
//!
//! The truth is the stream of changes on the server; a published message only says that it is worth a look, and a look
//! once a second finds what was not published.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{
    Code, Error, Result,
    registry::{Change, Instance, Watch},
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{Rows, Shared, instance, instances, scripts};
use crate::error::Call;

/// The longest time between two looks; also the shortest between two errors.
const LOOK: Duration = Duration::from_secs(1);
const CALL: Call = Call::read("registry.watch");

pub(super) struct RedisWatch {
    shared: Arc<Shared>,
    name: String,
    /// The names of which something has changed, whoever watches them.
    bell: Option<broadcast::Receiver<Arc<str>>>,
    /// The last change that was read.
    position: String,
    pending: VecDeque<Change>,
    /// The instances told as up.
    known: BTreeSet<Uuid>,
    /// When to look next.
    look: Instant,
}

impl RedisWatch {
    pub(super) async fn start(shared: Arc<Shared>, name: &str) -> Result<Self> {
        // Listens before it looks, so that nothing falls in between.
        let bell = shared.connection.listen();
        let mut watch = Self {
            shared,
            name: name.to_owned(),
            bell,
            position: String::new(),
            pending: VecDeque::new(),
            known: BTreeSet::new(),
            look: Instant::now(),
        };
        watch.look().await?;
        Ok(watch)
    }

    /// Reads what has changed. When cancelled it has read nothing.
    async fn look(&mut self) -> Result<()> {
        while self.bell.as_mut().is_some_and(|bell| bell.try_recv().is_ok()) {}
        let args = ["", self.name.as_str(), self.position.as_str()];
        let (wake, everything, position, rows): (i64, bool, String, Rows) =
            self.shared.run(CALL, &scripts::POLL, args).await?;
        let changes = match everything {
            true => self.difference(instances(&self.name, &rows)),
            false => rows.iter().filter_map(|row| self.change(row)).collect(),
        };
        self.pending.extend(changes);
        self.position = position;
        // A millisecond more, as the server's may have begun before ours.
        let expiry = u64::try_from(wake).map_or(LOOK, |wake| Duration::from_millis(wake + 1));
        self.look = Instant::now() + LOOK.min(expiry);
        Ok(())
    }

    /// What leads from what is known, with all that still waits, to what is there.
    fn difference(&mut self, there: Vec<Instance>) -> Vec<Change> {
        self.pending.clear();
        let ids: BTreeSet<_> = there.iter().map(|instance| instance.id).collect();
        let gone = self.known.difference(&ids).copied().map(Change::Down);
        let new = there
            .into_iter()
            .filter(|instance| !self.known.contains(&instance.id));
        gone.chain(new.map(Change::Up)).collect()
    }

    fn change(&self, row: &[Vec<u8>]) -> Option<Change> {
        let change = match row {
            [op, rest @ ..] if op == b"up" => instance(rest).map(Change::Up),
            [op, id, ..] if op == b"down" => Uuid::try_parse_ascii(id).ok().map(Change::Down),
            [op, ..] if op == b"mark" => return None,
            _ => None,
        };
        if change.is_none() {
            tracing::warn!(
                service = self.name,
                "the registry has a change that cannot be read, leaving it out"
            );
        }
        change
    }

    /// Whether the change is news.
    fn note(&mut self, change: &Change) -> bool {
        match change {
            Change::Up(instance) => self.known.insert(instance.id),
            Change::Down(id) => self.known.remove(id),
            _ => true,
        }
    }

    /// Waits until it is time to look, or the registry is closed.
    async fn wait(&mut self) {
        loop {
            let rung = async {
                match &mut self.bell {
                    Some(bell) => bell.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.connection.closed() => return,
                () = sleep_until(self.look) => return,
                rung = rung => match rung {
                    Ok(name) if *name != *self.name && !name.is_empty() => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => self.bell = None,
                }
            }
        }
        // Kept, so that a bell that was heard is not forgotten when this is cancelled.
        self.look = Instant::now();
    }
}

#[async_trait]
impl Watch for RedisWatch {
    async fn next(&mut self) -> Option<Result<Change>> {
        loop {
            if self.shared.connection.is_closed() {
                return None;
            }
            if let Some(change) = self.pending.pop_front() {
                if self.note(&change) {
                    return Some(Ok(change));
                }
                continue;
            }
            self.wait().await;
            match self.look().await {
                Ok(()) => {}
                Err(error) if error.code() == Some(Code::Closed) => return None,
                Err(error) => {
                    // Whoever asks again at once waits a little.
                    self.look = Instant::now() + LOOK;
                    return Some(Err(temporary(error)));
                }
            }
        }
    }
}

/// A watch goes on after every error, so each is temporary to it.
fn temporary(error: Error) -> Error {
    match error.is_temporary() {
        true => error,
        false => Error::temporary("the registry cannot be asked at present").with_source(error),
    }
}

impl fmt::Debug for RedisWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWatch")
            .field("name", &self.name)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}
