//! Keys that an issuer publishes, kept and renewed.
//!
//! One task owns all fetching; those who verify only read what it found last, so no token waits while its key is known.

use std::{sync::Arc, time::Duration};

use cqi_core::{Error, Result, observe::Observation};
use jsonwebtoken::Algorithm as Library;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{JwksOptions, JwtOptions, key_set::KeySet};

/// What the last fetches brought.
#[derive(Debug, Clone)]
pub(crate) struct State {
    keys: Arc<KeySet>,
    /// When the keys were asked for that are held.
    fetched: Instant,
    /// When they were asked for last, successfully or not.
    asked: Instant,
    /// Why the last fetch failed.
    failure: Option<Error>,
    /// How many fetches there were.
    fetches: u64,
}

/// The keys of an issuer, renewed by a task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct CachedKeys {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    options: Arc<JwtOptions>,
    _renewing: JoinSet<()>,
}

impl CachedKeys {
    /// Fetches the keys and begins to renew them.
    ///
    /// # Errors
    /// What the first fetch failed with.
    pub(crate) async fn start<F, Fut>(fetch: F, options: Arc<JwtOptions>) -> Result<Self>
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = Result<KeySet>> + Send + 'static,
    {
        let asked = Instant::now();
        let first = State {
            keys: Arc::new(observed(fetch().await, &options)?),
            fetched: asked,
            asked,
            failure: None,
            fetches: 1,
        };
        let (sender, state) = watch::channel(first);
        let wanted = Arc::new(Notify::new());
        let mut renewing = JoinSet::new();
        renewing.spawn(renew(fetch, sender, Arc::clone(&wanted), Arc::clone(&options)));
        Ok(Self {
            state,
            wanted,
            options,
            _renewing: renewing,
        })
    }

    /// The keys to verify a token with. When none of them fits its key id, they are asked for anew, at most once within
    /// the cooldown, and everybody who waits shares that fetch.
    ///
    /// # Errors
    /// `Temporary` when the keys are too old to be trusted, or none fits and the issuer cannot be asked.
    pub(crate) async fn find(&self, id: Option<&str>, algorithm: Library) -> Result<Arc<KeySet>> {
        let mut state = self.state.borrow().clone();
        let fits = |state: &State| state.keys.fitting(id, algorithm).next().is_some();
        if !fits(&state) && state.asked.elapsed() >= self.options.jwks.cooldown {
            state = self.next(&state).await?;
        }
        if state.fetched.elapsed() >= self.options.jwks.keep {
            return Err(unknown("the keys of tokens are out of date", &state));
        }
        match &state.failure {
            Some(_) if !fits(&state) => Err(unknown("the key of the token is unknown as yet", &state)),
            _ => Ok(Arc::clone(&state.keys)),
        }
    }

    pub(crate) fn checker(&self) -> KeyChecker {
        KeyChecker(self.state.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.state.borrow().keys.len()
    }

    /// Waits for the fetch after `state`. Cancel-safe: the fetch goes on without whoever waited.
    async fn next(&self, state: &State) -> Result<State> {
        let mut receiver = self.state.clone();
        self.wanted.notify_one();
        // A fetch that began before has the same deadline, so twice of it is the longest wait.
        let limit = self.options.jwks.timeout * 2;
        match timeout(limit, receiver.wait_for(|new| new.fetches > state.fetches)).await {
            Ok(Ok(new)) => Ok(new.clone()),
            _ => Err(unknown("the key of the token is unknown as yet", state)),
        }
    }
}

/// Whether the keys could be renewed when they were asked for last.
#[derive(Debug)]
pub(crate) struct KeyChecker(watch::Receiver<State>);

impl KeyChecker {
    pub(crate) fn check(&self) -> Result<()> {
        let state = self.0.borrow();
        match &state.failure {
            None if self.0.has_changed().is_ok() => Ok(()),
            _ => Err(unknown("the keys of tokens cannot be renewed", &state)),
        }
    }
}

fn unknown(message: &'static str, state: &State) -> Error {
    let error = Error::temporary(message).with_operation("jwt.keys");
    match &state.failure {
        Some(failure) => error.with_source(failure.clone()),
        None => error,
    }
}

/// Fetches when the keys are due or wanted, never twice within the cooldown. What is held stays when a fetch fails.
async fn renew<F, Fut>(fetch: F, state: watch::Sender<State>, wanted: Arc<Notify>, options: Arc<JwtOptions>)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<KeySet>>,
{
    let JwksOptions {
        cooldown, refresh, ..
    } = options.jwks;
    loop {
        let (asked, failed) = {
            let state = state.borrow();
            (state.asked, state.failure.is_some())
        };
        let pause: Duration = if failed { cooldown } else { refresh };
        tokio::select! {
            () = sleep(pause.saturating_sub(asked.elapsed())) => {}
            () = wanted.notified() => {
                // Left over from a fetch that has ended meanwhile.
                if asked.elapsed() < cooldown {
                    continue;
                }
            }
        }
        let asked = Instant::now();
        let found = observed(fetch().await, &options);
        if let Err(error) = &found {
            tracing::warn!(error = %error.chain(), "the keys of tokens could not be renewed; the old ones stay for a while");
        }
        state.send_modify(|state| {
            state.asked = asked;
            state.fetches += 1;
            match found {
                Ok(keys) => {
                    (state.keys, state.fetched, state.failure) = (Arc::new(keys), asked, None);
                }
                Err(error) => state.failure = Some(error),
            }
        });
    }
}

/// Tells the observer what a fetch brought.
fn observed(found: Result<KeySet>, options: &JwtOptions) -> Result<KeySet> {
    options.observer.observe(&Observation::KeysFetched {
        issuer: &options.issuer,
        error: found.as_ref().err(),
    });
    found
}

#[cfg(test)]
mod tests;
