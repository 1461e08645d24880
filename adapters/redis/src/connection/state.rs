//! Which connection is in use, and what its callers report about it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use cqi_core::{Code, Error, Result};
use redis::{RedisError, RedisResult, Value};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Pushes, wire::Wire};
use crate::{
    config::RedisOptions,
    error::{Call, Damage, damage},
};

/// So many commands in a row without an answer mean that the connection is dead. The client alone never finds that out.
const MAX_TIMEOUTS: u32 = 3;

/// One connection. Each has a number, so that late reports about an old one do not hurt the new one.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) wire: Wire,
}

pub(super) enum State {
    Up(Link),
    /// Just lost; the first attempt to replace it is under way, and callers wait for it.
    Lost,
    /// Connecting failed for this reason, and is being tried again. Callers fail with it at once.
    Down(Error),
    Closed,
}

pub(super) struct Shared {
    pub(super) options: RedisOptions,
    pub(super) server: String,
    pub(super) owner: &'static str,
    pub(super) state: watch::Sender<State>,
    /// How many commands in a row had no answer.
    pub(super) timeouts: AtomicU32,
    /// Rung when the link works but should be replaced.
    pub(super) wrong_server: Notify,
    pub(super) closed: CancellationToken,
    pub(super) bell: Option<Bell>,
}

/// The channel that a connection can listen to. It does so from the first listener on.
pub(super) struct Bell {
    pub(super) channel: &'static str,
    pub(super) pushes: Pushes,
    wanted: AtomicBool,
    /// Rung by the first listener.
    pub(super) first: Notify,
}

impl Bell {
    pub(super) fn new(channel: &'static str, behind: usize) -> Self {
        Self {
            channel,
            pushes: Pushes::new(behind),
            wanted: AtomicBool::new(false),
            first: Notify::new(),
        }
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<str>> {
        let heard = self.pushes.subscribe();
        if !self.wanted.swap(true, Ordering::SeqCst) {
            self.first.notify_one();
        }
        heard
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Tells listeners that they may have missed something.
    pub(super) fn ring(&self) {
        let _ = self.pushes.send(Arc::from("")); // nobody listens at present
    }
}

impl Shared {
    pub(super) fn link(&self) -> Option<Link> {
        match &*self.state.borrow() {
            State::Up(link) => Some(link.clone()),
            _ => None,
        }
    }

    pub(super) async fn wait_for_link(&self, call: Call, deadline: Instant) -> Result<Link> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Lost));
        let unavailable =
            || Error::temporary("the connection to Redis was lost").with_code(Code::Unavailable);
        let error = match timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Up(link) => return Ok(link.clone()),
                State::Down(error) => error.clone(),
                State::Closed => return Err(Error::closed(self.owner).with_operation(call.operation)),
                State::Lost => unavailable(),
            },
            _ => unavailable().with_context("server", &self.server),
        };
        Err(error.with_operation(call.operation))
    }

    /// Looks at what became of a command.
    pub(super) fn note(&self, link: u64, answer: RedisResult<Value>) -> RedisResult<Value> {
        let error = match answer {
            Ok(value) => {
                // Read first, so that callers on several cores do not fight for the cache line.
                if self.timeouts.load(Ordering::Relaxed) != 0 {
                    self.timeouts.store(0, Ordering::Relaxed);
                }
                return Ok(value);
            }
            Err(error) => error,
        };
        // What comes late on an old link says nothing of the one in use.
        if self.link().is_none_or(|current| current.id != link) {
            return Err(error);
        }
        match damage(&error) {
            Damage::None => self.timeouts.store(0, Ordering::Relaxed),
            Damage::Timeout => {
                if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_TIMEOUTS {
                    self.lose(link, &error);
                }
            }
            Damage::WrongServer => self.wrong_server.notify_one(),
            Damage::Lost => self.lose(link, &error),
        }
        Err(error)
    }

    /// Gives a link up, unless it was replaced already.
    pub(super) fn lose(&self, link: u64, why: &RedisError) {
        let lost = self.state.send_if_modified(|state| match state {
            // The other nodes of a cluster may be well, so its link stays until there is a new one.
            State::Up(current) if current.id == link && current.wire.is_cluster() => {
                self.wrong_server.notify_one();
                false
            }
            State::Up(current) if current.id == link => {
                *state = State::Lost;
                true
            }
            _ => false,
        });
        if lost {
            let code = why.code().unwrap_or_else(|| why.category());
            tracing::warn!(
                server = self.server,
                why = code,
                "connection to Redis lost, replacing it"
            );
        }
    }

    /// Listens on a link, if anybody wants to. An error is that of the link, not that of a server which does not let us.
    pub(super) async fn subscribe(&self, wire: &mut Wire) -> RedisResult<()> {
        let Some(bell) = self.bell.as_ref().filter(|bell| bell.is_wanted()) else {
            return Ok(());
        };
        match wire.subscribe(bell.channel).await {
            Ok(()) => bell.ring(),
            Err(error) => {
                let code = error.code().unwrap_or_else(|| error.category());
                tracing::warn!(
                    server = self.server,
                    why = code,
                    "cannot subscribe, changes will be noticed later"
                );
                if error.code().is_none() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
