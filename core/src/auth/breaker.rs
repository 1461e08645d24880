//! A verifier that is spared while it does not answer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::{AuthContext, Verifier};
use crate::{Error, Result, policy::later, secret::Secret};

/// When a [`Breaker`] opens, and for how long.
#[allow(clippy::exhaustive_structs)] // options
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerOptions {
    /// How long the verifier may take. Shorter than that of the servers, or they give up before it counts. Default 3 s.
    pub timeout: Duration,
    /// After how many failures in a row it is not asked any more; at least 1. Default 5.
    pub failures: u32,
    /// For how long it is not asked. Default 10 s.
    pub pause: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            failures: 5,
            pause: Duration::from_secs(10),
        }
    }
}

/// Asks a verifier that asks somebody else for each credential: a server of introspection or sessions. After some
/// failures in a row, which are `Temporary` errors and answers that do not come in time, callers hear `Temporary` with the
/// time to wait at once; nobody is let in. When the pause is over, one request asks, and all others hear the same until it
/// has an answer.
///
/// Not for verifiers that decide by themselves, as [`ApiKeys`](super::ApiKeys) do, nor for tokens with published keys:
/// those are verified while their server is down, which is asked by one task, seldom, and a breaker would let somebody
/// who sends tokens with unknown keys turn away all others.
#[derive(Debug)]
pub struct Breaker<V> {
    verifier: V,
    options: BreakerOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// Until when nobody asks; set as long as the breaker is open.
    until: Option<Instant>,
    /// Whether one request asks on behalf of all.
    probing: bool,
}

impl<V: Verifier> Breaker<V> {
    /// Spares `verifier`.
    ///
    /// # Errors
    /// `InvalidInput` for a time or a number that is zero.
    pub fn new(verifier: V, options: BreakerOptions) -> Result<Self> {
        if options.timeout.is_zero() || options.pause.is_zero() || options.failures == 0 {
            return Err(
                Error::invalid_input("timeout, failures and pause must be above zero")
                    .with_operation("auth.breaker"),
            );
        }
        Ok(Self {
            verifier,
            options,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the verifier may be asked, and whether as a probe.
    fn admit(&self) -> Result<Option<Probe<'_>>> {
        let mut state = self.state();
        let Some(until) = state.until else {
            return Ok(None);
        };
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() || state.probing {
            return Err(spared(left.max(Duration::from_secs(1))));
        }
        state.probing = true;
        Ok(Some(Probe(&self.state)))
    }

    fn settle(&self, failure: Option<&Error>, probe: bool) {
        let mut state = self.state();
        let Some(error) = failure else {
            if state.until.take().is_some() {
                tracing::info!("the verifier of credentials answers again");
            }
            state.failures = 0;
            return;
        };
        state.failures = state.failures.saturating_add(1);
        // Calls that began before it opened say nothing new.
        if probe || state.until.is_none() && state.failures >= self.options.failures {
            state.until = Some(later(Instant::now(), self.options.pause));
            drop(state);
            let pause = self.options.pause;
            tracing::warn!(error = %error.chain(), ?pause, "the verifier of credentials is not asked for a while");
        }
    }
}

#[async_trait]
impl<V: Verifier> Verifier for Breaker<V> {
    async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
        let probe = self.admit()?;
        let limit = self.options.timeout;
        let verified = timeout(limit, self.verifier.verify(credential)).await;
        let verified = verified.unwrap_or_else(|_| Err(Error::timeout(limit).with_operation("auth.verify")));
        let failure = verified.as_ref().err().filter(|error| error.is_temporary());
        self.settle(failure, probe.is_some());
        verified
    }
}

/// The one request that asks; when it is dropped without an answer, another one may.
#[derive(Debug)]
struct Probe<'a>(&'a Mutex<State>);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).probing = false;
    }
}

fn spared(wait: Duration) -> Error {
    Error::temporary("the verifier does not answer")
        .with_operation("auth.verify")
        .with_retry_after(wait)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    };

    use tokio::task::JoinSet;

    use super::*;
    use crate::auth::{AuthType, refused};

    /// Answers, or hangs, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Remote {
        hangs: AtomicBool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Verifier for Arc<Remote> {
        async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
            self.asked.fetch_add(1, SeqCst);
            if self.hangs.load(SeqCst) {
                std::future::pending::<()>().await;
            }
            match credential.expose() {
                "right" => Ok(AuthContext::new(AuthType::Jwt)),
                "down" => Err(Error::temporary("down")),
                _ => Err(refused()),
            }
        }
    }

    fn guarded() -> (Arc<Remote>, Arc<Breaker<Arc<Remote>>>) {
        let remote = Arc::new(Remote::default());
        let breaker = Breaker::new(Arc::clone(&remote), BreakerOptions::default()).unwrap();
        (remote, Arc::new(breaker))
    }

    async fn ask(breaker: &Breaker<Arc<Remote>>, credential: &str) -> Result<AuthContext> {
        breaker.verify(&credential.into()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_26_who_times_out_is_spared_for_a_while_and_nobody_is_let_in() {
        let (remote, breaker) = guarded();
        remote.hangs.store(true, SeqCst);
        let begun = Instant::now();
        for _ in 0..5 {
            assert!(ask(&breaker, "right").await.unwrap_err().is_temporary());
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(15));
        for _ in 0..1000 {
            let error = ask(&breaker, "right").await.unwrap_err();
            assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
        }
        assert_eq!(
            (begun.elapsed(), remote.asked.load(SeqCst)),
            (Duration::from_secs(15), 5)
        );
        remote.hangs.store(false, SeqCst);
        assert!(ask(&breaker, "right").await.is_err(), "the pause holds");
        tokio::time::advance(Duration::from_secs(10)).await;
        ask(&breaker, "right").await.unwrap();
        ask(&breaker, "right").await.unwrap();
        assert_eq!(remote.asked.load(SeqCst), 7);
    }

    /// F-NET-02: a probe that is dropped does not leave the breaker half open.
    #[tokio::test(start_paused = true)]
    async fn a_26_one_request_asks_on_behalf_of_all() {
        let (remote, breaker) = guarded();
        remote.hangs.store(true, SeqCst);
        for _ in 0..5 {
            ask(&breaker, "right").await.unwrap_err();
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        let mut asking = JoinSet::new();
        for _ in 0..100 {
            let breaker = Arc::clone(&breaker);
            asking.spawn(async move { ask(&breaker, "right").await.unwrap_err() });
        }
        let errors = asking.join_all().await;
        assert_eq!((errors.len(), remote.asked.load(SeqCst)), (100, 6));
        // The probe failed: another pause, then another probe. One that is dropped leaves its place to the next.
        assert!(ask(&breaker, "right").await.is_err());
        assert_eq!(remote.asked.load(SeqCst), 6);
        tokio::time::advance(Duration::from_secs(10)).await;
        let dropped = timeout(Duration::from_millis(1), ask(&breaker, "right")).await;
        assert!(dropped.is_err());
        remote.hangs.store(false, SeqCst);
        ask(&breaker, "right").await.unwrap();
        assert_eq!(remote.asked.load(SeqCst), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_26_refusals_are_answers_and_only_failures_in_a_row_count() {
        let (remote, breaker) = guarded();
        for _ in 0..100 {
            assert!(ask(&breaker, "wrong").await.unwrap_err().is_unauthorized());
        }
        for _ in 0..10 {
            for _ in 0..4 {
                ask(&breaker, "down").await.unwrap_err();
            }
            ask(&breaker, "wrong").await.unwrap_err();
        }
        assert_eq!(remote.asked.load(SeqCst), 150);
        ask(&breaker, "right").await.unwrap();
    }

    #[test]
    fn a_26_a_breaker_needs_times_and_a_number() {
        let defaults = BreakerOptions::default;
        for bad in [
            BreakerOptions {
                timeout: Duration::ZERO,
                ..defaults()
            },
            BreakerOptions {
                failures: 0,
                ..defaults()
            },
            BreakerOptions {
                pause: Duration::ZERO,
                ..defaults()
            },
        ] {
            let remote = Arc::new(Remote::default());
            assert!(Breaker::new(remote, bad).unwrap_err().is_invalid_input());
        }
    }
}
