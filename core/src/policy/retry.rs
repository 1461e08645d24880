//! Repeating an operation until it succeeds or there is no point any more.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    Error, Result,
    observe::{Observation, Observer, Silent},
    policy::Backoff,
};

type Predicate = Arc<dyn Fn(&Error) -> bool + Send + Sync>;

/// Which errors are worth another attempt (RET-7).
#[non_exhaustive]
#[derive(Clone, Default)]
pub enum RetryOn {
    /// Temporary errors only.
    #[default]
    Temporary,
    /// Every error, permanent ones included (OP-39).
    All,
    /// No error.
    None,
    /// Whatever the function says.
    Func(Predicate),
}

impl RetryOn {
    /// Retries when `predicate` says so.
    pub fn func(predicate: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        Self::Func(Arc::new(predicate))
    }

    /// Whether `error` is worth another attempt.
    pub fn accepts(&self, error: &Error) -> bool {
        match self {
            Self::Temporary => error.is_temporary(),
            Self::All => true,
            Self::None => false,
            Self::Func(predicate) => predicate(error),
        }
    }
}

impl std::fmt::Debug for RetryOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Temporary => "Temporary",
            Self::All => "All",
            Self::None => "None",
            Self::Func(_) => "Func",
        })
    }
}

/// How often and how fast an operation is repeated (RET-3).
#[derive(Debug, Clone)]
pub struct Retry {
    /// Attempts in all, the first included; at least 1. Default 3.
    pub attempts: u32,
    /// The pause before the first retry. Default 1 s.
    pub initial: Duration,
    /// The longest pause. Default 30 s.
    pub max: Duration,
    /// Growth of the pause; at least 1. Default 2.
    pub multiplier: f64,
    /// Share of random spread, 0 to 1. Default 0.25.
    pub jitter: f64,
    /// Which errors are repeated. Default: temporary ones.
    pub on: RetryOn,
}

impl Default for Retry {
    fn default() -> Self {
        let Backoff {
            initial,
            max,
            multiplier,
            jitter,
        } = Backoff::default();
        Self {
            attempts: 3,
            initial,
            max,
            multiplier,
            jitter,
            on: RetryOn::Temporary,
        }
    }
}

impl Retry {
    /// One attempt, no retry.
    pub fn never() -> Self {
        Self {
            attempts: 1,
            on: RetryOn::None,
            ..Self::default()
        }
    }

    /// The pauses of this policy.
    pub fn backoff(&self) -> Backoff {
        Backoff {
            initial: self.initial,
            max: self.max,
            multiplier: self.multiplier,
            jitter: self.jitter,
        }
    }

    /// Checks the numbers (OP-18).
    ///
    /// # Errors
    /// `InvalidInput` for zero attempts, a multiplier below 1, jitter outside 0 to 1, or a cap below the first pause.
    pub fn validate(&self) -> Result<()> {
        let why = if self.attempts == 0 {
            "attempts must be at least 1"
        } else if !(self.multiplier >= 1.0 && self.multiplier.is_finite()) {
            "multiplier must be at least 1"
        } else if !(0.0..=1.0).contains(&self.jitter) {
            "jitter must be between 0 and 1"
        } else if self.max < self.initial {
            "max must not be below initial"
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(format!("retry: {why}")))
    }

    /// The pause after failed attempt `attempt` (from 1), or `None` when it was the last.
    /// The other side's `retry_after` lengthens the pause, up to `max`.
    pub fn next_delay(&self, attempt: u32, error: &Error) -> Option<Duration> {
        if attempt >= self.attempts || !self.on.accepts(error) {
            return None;
        }
        let asked = error.retry_after().unwrap_or_default().min(self.max);
        Some(self.backoff().delay(attempt).max(asked))
    }
}

/// Runs `operation` until it succeeds or the attempts are used up; then the last error is returned (RET-1).
///
/// There is no deadline here: each attempt is as long as the operation makes it. Ports are better put under a
/// [`Policy`](crate::policy::Policy), which has one.
///
/// # Errors
/// `InvalidInput` for an invalid `retry`, else the last attempt's error.
pub async fn run<F, Fut>(retry: &Retry, operation: F) -> Result<()>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<()>> + Send,
{
    run_with_data(retry, operation).await
}

/// As [`run`], returning the value of the attempt that succeeded (RET-2).
///
/// # Errors
/// `InvalidInput` for an invalid `retry`, else the last attempt's error.
pub async fn run_with_data<T, F, Fut>(retry: &Retry, mut operation: F) -> Result<T>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T>> + Send,
    T: Send,
{
    retry.validate()?;
    let mut attempt = 1;
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(delay) = retry.next_delay(attempt, &error) else {
            return Err(error);
        };
        report(&Silent, "retry", attempt, delay, &error);
        tokio::time::sleep(delay).await;
        attempt += 1;
    }
}

/// Logs a retry with its error and the coming pause (RET-10) and tells the observer (RET-9).
pub(super) fn report(
    observer: &dyn Observer,
    operation: &'static str,
    attempt: u32,
    delay: Duration,
    error: &Error,
) {
    tracing::warn!(operation, attempt, delay_ms = delay.as_secs_f64() * 1e3, error = %error.chain(), "retrying");
    observer.observe(&Observation::Retrying {
        operation,
        attempt,
        delay,
        error,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn attempts(on: RetryOn, error: Error) -> u32 {
        let mut attempts = 0;
        let retry = Retry {
            on,
            ..Retry::default()
        };
        let result = run(&retry, || {
            attempts += 1;
            let error = error.clone();
            async move { Err(error) }
        });
        assert_eq!(result.await.unwrap_err().kind(), error.kind());
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn ret_7_8_each_policy_repeats_its_errors() {
        let (permanent, temporary) = (Error::permanent("x"), Error::temporary("x"));
        assert_eq!(attempts(RetryOn::Temporary, permanent.clone()).await, 1);
        assert_eq!(attempts(RetryOn::Temporary, temporary.clone()).await, 3);
        assert_eq!(attempts(RetryOn::All, permanent.clone()).await, 3);
        assert_eq!(attempts(RetryOn::None, temporary.clone()).await, 1);
        assert_eq!(
            attempts(RetryOn::func(Error::is_not_found), Error::not_found("a", 1)).await,
            3
        );
        assert_eq!(attempts(RetryOn::func(Error::is_not_found), temporary).await, 1);
    }

    #[tokio::test]
    async fn op_18_invalid_numbers_are_refused_before_the_first_attempt() {
        for bad in [
            Retry {
                attempts: 0,
                ..Retry::default()
            },
            Retry {
                multiplier: 0.5,
                ..Retry::default()
            },
            Retry {
                multiplier: f64::NAN,
                ..Retry::default()
            },
            Retry {
                jitter: 1.5,
                ..Retry::default()
            },
            Retry {
                max: Duration::ZERO,
                ..Retry::default()
            },
        ] {
            let result = run(&bad, || async { unreachable!("must not run") });
            assert!(result.await.unwrap_err().is_invalid_input());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ret_6_cancelling_during_a_pause_ends_it_at_once() {
        let retry = Retry {
            initial: Duration::from_secs(20),
            ..Retry::default()
        };
        let running = run(&retry, || async { Err(Error::temporary("x")) });
        assert!(
            tokio::time::timeout(Duration::from_secs(1), running)
                .await
                .is_err()
        );
    }

    #[test]
    fn the_other_sides_wish_lengthens_the_pause_up_to_the_cap() {
        let retry = Retry {
            jitter: 0.0,
            ..Retry::default()
        };
        let asked = |seconds| Error::temporary("x").with_retry_after(Duration::from_secs(seconds));
        assert_eq!(retry.next_delay(1, &asked(7)), Some(Duration::from_secs(7)));
        assert_eq!(retry.next_delay(1, &asked(3600)), Some(Duration::from_secs(30)));
    }
}
