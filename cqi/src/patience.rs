//! The start of a service whose stores and brokers are not there yet.

use std::{future::Future, time::Duration};

use cqi_core::{Result, policy::Backoff};
use tokio::time::{Instant, sleep};

/// The pauses between attempts: short, because whoever waits wants to run.
const PAUSES: Backoff = Backoff {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(1),
    multiplier: 2.0,
    jitter: 0.25,
};

/// How long a start waits for what cannot be reached. One for all ports together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    began: Instant,
    wait: Duration,
}

impl Patience {
    pub(crate) fn new(wait: Duration) -> Self {
        Self {
            began: Instant::now(),
            wait,
        }
    }

    /// Connects a port; again and again while the other side cannot be reached and there is time.
    ///
    /// Cancel-safe if `connect` is.
    pub(crate) async fn connect<T, Fut>(self, port: &'static str, connect: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = Result<T>>,
    {
        let mut attempt = 0u32;
        loop {
            attempt = attempt.saturating_add(1);
            let error = match connect().await {
                Err(error) if error.is_temporary() => error,
                result => return result,
            };
            let pause = PAUSES.delay(attempt);
            if self.began.elapsed() + pause > self.wait {
                return Err(error);
            }
            if attempt.is_power_of_two() {
                tracing::warn!(port, attempt, error = %error.chain(), "waiting for what cannot be reached");
            }
            sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use cqi_core::Error;

    use super::*;

    /// Fails until the given moment after the start.
    async fn attempts(wait: u64, back_after: u64, error: fn() -> Error) -> (u32, Result<()>) {
        let (calls, began) = (AtomicU32::new(0), Instant::now());
        let back = began + Duration::from_secs(back_after);
        let result = Patience::new(Duration::from_secs(wait))
            .connect("cache", || async {
                calls.fetch_add(1, Relaxed);
                if Instant::now() < back {
                    Err(error())
                } else {
                    Ok(())
                }
            })
            .await;
        (calls.into_inner(), result)
    }

    fn unreachable() -> Error {
        Error::temporary("connection refused")
    }

    #[tokio::test(start_paused = true)]
    async fn f_bus_08_without_patience_the_first_error_is_the_answer() {
        let (calls, result) = attempts(0, 5, unreachable).await;
        assert!(calls == 1 && result.unwrap_err().is_temporary());
    }

    #[tokio::test(start_paused = true)]
    async fn f_bus_08_with_patience_the_start_works_within_2_s_of_the_servers() {
        let began = Instant::now();
        let (calls, result) = attempts(60, 5, unreachable).await;
        assert!(calls > 2 && result.is_ok());
        assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn f_bus_08_patience_ends() {
        let began = Instant::now();
        assert!(attempts(3, 60, unreachable).await.1.is_err());
        assert!(began.elapsed() <= Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn f_bus_08_a_lasting_error_is_not_waited_for() {
        let (calls, result) = attempts(60, 5, || Error::unauthorized("wrong password")).await;
        assert!(calls == 1 && result.is_err());
    }
}
