//! What must answer before a service starts (ML-CORE-14).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::task::{isolated, together};
use crate::{
    Result,
    health::Checker,
    policy::{Backoff, later},
};

/// How a dependency is checked at start-up (ML-CORE-18).
#[derive(Debug, Clone)]
pub struct DependencyOptions {
    /// The deadline of one try. Default 5 s.
    pub timeout: Duration,
    /// Tries in all, at least 1. Default 1.
    pub tries: u32,
    /// The pauses between tries.
    pub backoff: Backoff,
    /// Whether the service must not start without it. Default true; else its failure is a warning.
    pub required: bool,
}

impl Default for DependencyOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            tries: 1,
            backoff: Backoff::default(),
            required: true,
        }
    }
}

impl DependencyOptions {
    /// Default options of a dependency without which the service starts all the same.
    pub fn optional() -> Self {
        Self {
            required: false,
            ..Self::default()
        }
    }

    /// Sets the deadline of one try.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the number of tries and the pauses between them.
    pub fn with_tries(mut self, tries: u32, backoff: Backoff) -> Self {
        self.tries = tries;
        self.backoff = backoff;
        self
    }
}

/// A checker with its options.
pub(super) type Dependency = (Arc<dyn Checker>, DependencyOptions);

/// Checks all dependencies at the same time (ML-CORE-19). Cancel-safe: dropping it aborts the checks.
///
/// # Errors
/// One error naming every required dependency that failed, each with its cause (ML-CORE-17).
pub(super) async fn check_all(dependencies: Vec<Dependency>) -> Result<()> {
    let results = futures::future::join_all(dependencies.into_iter().map(|(checker, options)| async move {
        let result = check(&checker, &options).await;
        (options.required, result)
    }))
    .await;
    let mut failed = Vec::new();
    for (required, result) in results {
        match result {
            Ok(()) => {}
            Err(error) if required => failed.push(error),
            Err(error) => {
                tracing::warn!(error = %error.chain(), "optional dependency failed, starting without it")
            }
        }
    }
    together("dependencies are not well", &failed).map_or(Ok(()), Err)
}

async fn check(checker: &Arc<dyn Checker>, options: &DependencyOptions) -> Result<()> {
    let what = format!("dependency {}", checker.name());
    let mut attempt = 1;
    loop {
        let asked = Arc::clone(checker);
        let deadline = later(Instant::now(), options.timeout);
        let Err(error) = isolated(&what, deadline, async move { asked.check().await }).await else {
            tracing::debug!(dependency = checker.name(), attempt, "dependency is well");
            return Ok(());
        };
        if attempt >= options.tries {
            return Err(error);
        }
        let delay = options.backoff.delay(attempt);
        tracing::warn!(error = %error.chain(), attempt, ?delay, "dependency failed, trying again");
        tokio::time::sleep(delay).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{Error, health::check_fn};

    fn hanging(name: &str) -> Dependency {
        (
            Arc::new(check_fn(name, std::future::pending)),
            DependencyOptions::default(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn ml_core_17_19_20_checks_run_together_and_every_failure_is_named() {
        let started = Instant::now();
        let failing: Arc<dyn Checker> = Arc::new(check_fn("database", || async {
            Err(Error::temporary("connection refused"))
        }));
        let panicking: Arc<dyn Checker> = Arc::new(check_fn("vault", || async { panic!("secret") }));
        let error = check_all(vec![
            hanging("cache"),
            hanging("registry"),
            (failing, DependencyOptions::default()),
            (panicking, DependencyOptions::default()),
        ])
        .await
        .unwrap_err();
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        let text = error.to_string();
        for part in [
            "dependency cache overran its deadline: no answer within 5s",
            "dependency registry overran",
            "dependency database failed: connection refused",
            "dependency vault panicked",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn ml_core_18_tries_with_backoff_and_optional() {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let third_time: Arc<dyn Checker> = Arc::new(check_fn("database", move || {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                if number < 3 {
                    Err(Error::temporary("not yet"))
                } else {
                    Ok(())
                }
            }
        }));
        let optional: Arc<dyn Checker> =
            Arc::new(check_fn("cache", || async { Err(Error::permanent("no")) }));
        check_all(vec![
            (
                third_time,
                DependencyOptions::default().with_tries(3, Backoff::default()),
            ),
            (optional, DependencyOptions::optional()),
        ])
        .await
        .unwrap();
        assert_eq!(tries.load(Ordering::SeqCst), 3);
    }
}
