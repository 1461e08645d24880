//! What others hold of a running app: its state, and the way to end it.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hooks::Hooks;
use crate::{Code, Error, Result};

/// Where an app is in its life (ML-CORE-2).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Built, not started.
    New,
    /// Checking dependencies or starting services.
    Starting,
    /// Every service is ready.
    Running,
    /// Draining.
    Stopping,
    /// Ended as it should.
    Stopped,
    /// Ended with an error.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

/// A handle of an [`App`](super::App). Cheap to clone.
#[derive(Clone)]
pub struct AppHandle(Arc<Shared>);

pub(super) struct Shared {
    name: String,
    state: watch::Sender<State>,
    outcome: watch::Sender<Option<Result<()>>>,
    pub(super) shutdown: CancellationToken,
    hooks: Mutex<Hooks>,
}

impl AppHandle {
    /// The app's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where the app is in its life.
    pub fn state(&self) -> State {
        *self.0.state.borrow()
    }

    /// Whether the app runs and every service is ready.
    ///
    /// # Errors
    /// `Temporary`/`Unavailable` in every other state.
    pub fn health(&self) -> Result<()> {
        match self.state() {
            State::Running => Ok(()),
            state => {
                Err(Error::temporary(format!("{} is {state}", self.0.name)).with_code(Code::Unavailable))
            }
        }
    }

    /// Waits until every service is ready. Cancel-safe.
    ///
    /// # Errors
    /// The app's error, or `Closed` when it ends without ever having run.
    pub async fn running(&self) -> Result<()> {
        let mut state = self.0.state.subscribe();
        let seen = state
            .wait_for(|state| matches!(state, State::Running | State::Stopped | State::Failed))
            .await
            .map(|state| *state);
        match seen {
            Ok(State::Running) => Ok(()),
            _ => self.wait().await.and_then(|()| Err(Error::closed(&self.0.name))),
        }
    }

    /// Asks the app to stop, without waiting. Before `run` it makes `run` end before it starts anything.
    pub fn request_shutdown(&self) {
        self.0.shutdown.cancel();
    }

    /// Asks the app to stop and waits for its end. Every caller gets the same result (ML-CORE-12). An app that was
    /// never started has nothing to stop: the answer is `Ok` at once (ML-CORE-4).
    ///
    /// Cancel safety: the request stays.
    ///
    /// # Errors
    /// The app's error.
    pub async fn shutdown(&self) -> Result<()> {
        self.request_shutdown();
        if self.state() == State::New {
            return Ok(());
        }
        self.wait().await
    }

    /// Waits for the end of the app. Cancel-safe.
    ///
    /// # Errors
    /// The app's error.
    pub async fn wait(&self) -> Result<()> {
        let mut outcome = self.0.outcome.subscribe();
        let ended = outcome.wait_for(Option::is_some).await;
        ended.ok().and_then(|outcome| outcome.clone()).unwrap_or(Ok(()))
    }

    /// Registers an async function to be called at the end of the shutdown; the last registered is called first.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is malformed or taken, `Closed` once the services are being stopped.
    pub fn on_shutdown<F, Fut>(&self, name: impl Into<String>, hook: F) -> Result<()>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.0
            .hooks(|hooks| hooks.add(name.into(), Box::new(|| Box::pin(hook()))))
    }

    pub(super) fn new(name: String) -> Self {
        Self(Arc::new(Shared {
            name,
            state: watch::Sender::new(State::New),
            outcome: watch::Sender::new(None),
            shutdown: CancellationToken::new(),
            hooks: Mutex::default(),
        }))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for AppHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppHandle")
            .field("name", &self.0.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn state(&self) -> watch::Ref<'_, State> {
        self.state.borrow()
    }

    pub(super) fn enter(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(super) fn hooks<T>(&self, work: impl FnOnce(&mut Hooks) -> T) -> T {
        work(&mut self.hooks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn finish(&self, result: Result<()>) {
        self.enter(if result.is_ok() {
            State::Stopped
        } else {
            State::Failed
        });
        self.outcome.send_replace(Some(result));
    }
}

/// Owned by the app: whoever waits for it learns of its end, also when it is dropped instead of run to its end.
pub(super) struct Ending(pub(super) AppHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        let shared = self.0.shared();
        if shared.outcome.borrow().is_none() {
            shared.finish(Err(Error::permanent(format!(
                "{} was dropped before it ended",
                shared.name
            ))
            .with_code(Code::Cancelled)));
        }
    }
}
