//! One policy for a call that may fail: `observe ⊃ deadline ⊃ retry ⊃ attempt`, in the one safe order.
//!
//! Only operations that may be repeated are repeated, and never past the deadline. An error that may have taken
//! effect ([`Error::may_have_applied`]) is repeated only when the operation is declared repeatable.

mod backoff;
mod retry;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

pub use self::{
    backoff::Backoff,
    retry::{Retry, RetryOn, run, run_with_data},
};
use crate::{
    Code, Error, Result,
    observe::{Observation, Observer, Silent},
};

/// Whether an operation may be run again after an attempt whose effect is unknown.
#[allow(clippy::exhaustive_enums)] // a question with two answers
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Running it twice is the same as running it once: reads, deletes, publishing under one message id.
    Safe,
    /// Running it twice may do it twice: it is repeated only if the failed attempt certainly had no effect.
    Unsafe,
}

/// Thirty years: further than any deadline, and the clock surely reaches that far.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The moment so long after another one; one that the clock does not reach counts as [`FAR`] off.
pub(crate) fn later(from: Instant, delay: Duration) -> Instant {
    from.checked_add(delay).unwrap_or_else(|| from + FAR)
}

/// How calls of a port are bounded, repeated and observed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Policy {
    deadline: Duration,
    retry: Retry,
    observer: Arc<dyn Observer>,
    silent: bool,
}

impl Default for Policy {
    /// A deadline of 5 seconds, the default [`Retry`], no observer.
    fn default() -> Self {
        Self::new(Duration::from_secs(5), Retry::default())
    }
}

impl Policy {
    /// A policy with a deadline for the whole call, all attempts and pauses included.
    pub fn new(deadline: Duration, retry: Retry) -> Self {
        Self {
            deadline,
            retry,
            observer: Arc::new(Silent),
            silent: true,
        }
    }

    /// Reports every call and every retry to `observer`.
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self.silent = false;
        self
    }

    /// This policy for a call that has at most `limit`, because whoever asked for it waits no longer. With none left a
    /// call fails at once, and certainly had no effect. Cheap: nothing is allocated.
    pub fn within(&self, limit: Duration) -> Self {
        Self {
            deadline: self.deadline.min(limit),
            ..self.clone()
        }
    }

    /// This policy for a call that may take `limit`, where it has a shorter deadline.
    pub(crate) fn at_least(&self, limit: Duration) -> Self {
        Self {
            deadline: self.deadline.max(limit),
            ..self.clone()
        }
    }

    /// The deadline of a whole call.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The observer, for what a caller wants to report beside the calls.
    pub fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// Whether a call that failed like this is worth another attempt.
    pub(crate) fn repeats(&self, error: &Error) -> bool {
        self.retry.on.accepts(error)
    }

    /// Runs `attempt` under this policy. `operation` is port and method, for example `cache.get`.
    ///
    /// Cancel safety: dropping the future drops the running attempt and ends any pause at once (RET-6).
    ///
    /// # Errors
    /// The last attempt's error, or `Temporary`/`Timeout` when the deadline passed first; that error may have applied. So
    /// may the last attempt's, when any attempt's may.
    pub async fn call<T, F, Fut>(&self, operation: &'static str, repeat: Repeat, mut attempt: F) -> Result<T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let started = Instant::now();
        let deadline = later(started, self.deadline);
        let mut attempts = 1;
        let result = if self.deadline.is_zero() {
            attempts = 0;
            Err(Error::temporary("no time is left")
                .with_code(Code::Timeout)
                .with_operation(operation))
        } else {
            let mut running = pin!(self.attempts(operation, repeat, deadline, &mut attempt, &mut attempts));
            // What is ready at once needs no timer.
            match poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await {
                Poll::Ready(result) => result,
                Poll::Pending => timeout_at(deadline, running)
                    .await
                    .unwrap_or_else(|_| Err(Error::timeout(self.deadline).with_operation(operation))),
            }
        };
        if !self.silent {
            self.observer.observe(&Observation::Called {
                operation,
                elapsed: started.elapsed(),
                attempts,
                error: result.as_ref().err(),
            });
        }
        result
    }

    /// Whether calls are worth a span: only then make one for [`Policy::call_in`].
    pub fn records_trace(&self) -> bool {
        !self.silent && self.observer.records_trace()
    }

    /// As [`Policy::call`], inside `span`, which learns of a failure in its field `error.type`. A disabled span costs
    /// nothing.
    ///
    /// # Errors
    /// As [`Policy::call`].
    pub async fn call_in<T, F, Fut>(
        &self,
        span: Span,
        operation: &'static str,
        repeat: Repeat,
        attempt: F,
    ) -> Result<T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        if span.is_disabled() {
            return self.call(operation, repeat, attempt).await;
        }
        let call = self.call(operation, repeat, attempt);
        let result = call.instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("error.type", error.wire_code());
        }
        result
    }

    async fn attempts<T, F, Fut>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        deadline: Instant,
        attempt: &mut F,
        attempts: &mut u32,
    ) -> Result<T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let mut may_have_applied = false;
        loop {
            let mut error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            may_have_applied |= error.may_have_applied();
            if may_have_applied {
                error = error.maybe_applied();
            }
            let unsafe_to_repeat = repeat == Repeat::Unsafe && error.may_have_applied();
            let delay = self
                .retry
                .next_delay(*attempts, &error)
                .filter(|_| !unsafe_to_repeat);
            // A pause that leaves no time for an attempt would only hide this error behind a timeout.
            let Some(delay) = delay.filter(|delay| later(Instant::now(), *delay) < deadline) else {
                return Err(error);
            };
            retry::report(&*self.observer, operation, *attempts, delay, &error);
            tokio::time::sleep(delay).await;
            *attempts += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::trace::TraceContext;

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<String>>);

    impl Observer for Log {
        fn observe(&self, observation: &Observation<'_>) {
            let line = match observation {
                Observation::Called {
                    operation,
                    attempts,
                    error,
                    ..
                } => {
                    format!("called {operation} {attempts} {}", error.is_none())
                }
                Observation::Retrying { attempt, delay, .. } => format!("retry {attempt} {delay:?}"),
                other => format!("{other:?}"),
            };
            self.0.lock().unwrap().push(line);
        }

        fn current_trace(&self) -> Option<TraceContext> {
            None
        }
    }

    fn retry() -> Retry {
        Retry {
            jitter: 0.0,
            ..Retry::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ret_8_9_10_temporary_errors_are_repeated_and_reported() {
        let log = Arc::new(Log::default());
        let observer: Arc<dyn Observer> = Arc::<Log>::clone(&log);
        let policy = Policy::new(Duration::from_secs(60), retry()).with_observer(observer);
        let mut tries = 0;
        let result = policy
            .call("cache.get", Repeat::Safe, || {
                tries += 1;
                let result = if tries < 3 {
                    Err(Error::temporary("x"))
                } else {
                    Ok(tries)
                };
                async move { result }
            })
            .await;
        assert_eq!(result.unwrap(), 3);
        assert_eq!(
            *log.0.lock().unwrap(),
            ["retry 1 1s", "retry 2 2s", "called cache.get 3 true"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_bounds_attempts_and_pauses_together() {
        let policy = Policy::new(
            Duration::from_millis(2500),
            Retry {
                attempts: 100,
                ..retry()
            },
        );
        let started = Instant::now();
        let failing = policy.call("cache.get", Repeat::Safe, || async {
            Err::<(), _>(Error::temporary("x"))
        });
        let error = failing.await.unwrap_err();
        // The second pause would end after the deadline: the error is told, at once.
        assert_eq!((started.elapsed().as_secs(), error.message()), (1, "x"));

        let hanging = policy.call("cache.get", Repeat::Safe, std::future::pending::<Result<()>>);
        let error = hanging.await.unwrap_err();
        assert_eq!(started.elapsed().as_millis() / 10, 350);
        assert_eq!(
            (error.code(), error.may_have_applied()),
            (Some(Code::Timeout), true)
        );
        assert!(error.to_string().starts_with("cache.get: "), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_past_the_end_of_the_clock_is_not_waited_for() {
        let retry = Retry {
            max: Duration::MAX,
            ..retry()
        };
        for deadline in [Duration::from_secs(1), Duration::MAX] {
            let asked = Error::temporary("x").with_retry_after(Duration::MAX);
            let failing = Policy::new(deadline, retry.clone());
            let failing = failing.call("cache.get", Repeat::Safe, || async {
                Err::<(), _>(asked.clone())
            });
            assert_eq!(failing.await.unwrap_err().message(), "x");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f_net_03_a_caller_in_a_hurry_shortens_the_deadline_and_the_call_is_observed_still() {
        let log = Arc::new(Log::default());
        let observer: Arc<dyn Observer> = Arc::<Log>::clone(&log);
        let policy = Policy::new(Duration::from_secs(3), retry()).with_observer(observer);
        let started = Instant::now();
        for (limit, elapsed) in [(9, 3), (2, 5), (0, 5)] {
            let hurried = policy.within(Duration::from_secs(limit));
            let hanging = hurried.call("cache.get", Repeat::Safe, std::future::pending::<Result<()>>);
            let error = hanging.await.unwrap_err();
            assert_eq!(started.elapsed().as_secs(), elapsed, "{limit}");
            assert_eq!(
                (error.code(), error.may_have_applied()),
                (Some(Code::Timeout), limit > 0)
            );
        }
        let called = ["called cache.get 1 false"; 2];
        assert_eq!(
            *log.0.lock().unwrap(),
            [&called[..], &["called cache.get 0 false"]].concat()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_of_unknown_effect_is_not_forgotten_when_a_later_one_certainly_had_none() {
        let errors = [
            Error::temporary("cut off").maybe_applied(),
            Error::temporary("connection refused"),
            Error::permanent("refused"),
        ];
        let mut failures = errors.into_iter();
        let result: Result<()> = Policy::new(Duration::from_secs(60), retry())
            .call("event_bus.publish", Repeat::Safe, || {
                let error = failures.next();
                async move { error.map_or(Ok(()), Err) }
            })
            .await;
        let error = result.unwrap_err();
        assert_eq!((error.message(), error.is_permanent()), ("refused", true));
        assert!(error.may_have_applied(), "the first attempt may be stored");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_effect_is_repeated_only_when_that_is_safe() {
        for (repeat, expected) in [(Repeat::Safe, 3), (Repeat::Unsafe, 1)] {
            let mut tries = 0;
            let result: Result<()> = Policy::new(Duration::from_secs(60), retry())
                .call("database.execute", repeat, || {
                    tries += 1;
                    async { Err(Error::temporary("cut off").maybe_applied()) }
                })
                .await;
            assert!(result.is_err());
            assert_eq!(tries, expected);
        }
    }
}
