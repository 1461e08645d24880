//! Functions run at the end of a shutdown, last registered first (SVC-8).

use futures::future::BoxFuture;
use tokio::time::{Duration, Instant};

use super::task::isolated;
use crate::{Error, Result, name::check_name};

/// How long a hook gets whose turn comes after the deadline of the shutdown: every hook is called (ML-CORE-9).
pub(super) const LAST_CALL: Duration = Duration::from_millis(100);

type Hook = Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send>;

/// The hooks of one app. Closed when shutdown begins.
#[derive(Default)]
pub(super) struct Hooks {
    registered: Vec<(String, Hook)>,
    closed: bool,
}

impl Hooks {
    /// Adds a hook (ML-CORE-7, 11).
    ///
    /// # Errors
    /// `InvalidInput` for a name that is malformed or taken, `Closed` once shutdown has begun.
    pub(super) fn add(&mut self, name: String, hook: Hook) -> Result<()> {
        check_name(&name, "shutdown hook")?;
        if self.closed {
            return Err(Error::closed("the list of shutdown hooks").with_context("hook", name));
        }
        if self.registered.iter().any(|(taken, _)| *taken == name) {
            return Err(Error::invalid_input(format!(
                "shutdown hook {name} is registered twice"
            )));
        }
        self.registered.push((name, hook));
        Ok(())
    }

    /// Closes the list and gives what is in it.
    pub(super) fn take(&mut self) -> Self {
        self.closed = true;
        Self {
            registered: std::mem::take(&mut self.registered),
            closed: true,
        }
    }
}

/// Runs each hook once, in reverse order. One that errs, panics or hangs does not keep the others from their turn.
pub(super) async fn run_all(hooks: Hooks, deadline: Instant) -> Vec<Error> {
    let mut failed = Vec::new();
    for (name, hook) in hooks.registered.into_iter().rev() {
        tracing::info!(hook = name, "stop: hook");
        let limit = deadline.max(Instant::now() + LAST_CALL);
        // Called inside the task, so that a panic before the first await is caught as well.
        let result = isolated(
            &format!("shutdown hook {name}"),
            limit,
            async move { hook().await },
        )
        .await;
        failed.extend(result.err());
    }
    failed
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn svc_8_ml_core_7_9_10_lifo_once_isolated_and_named() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut hooks = Hooks::default();
        let mut add = |name: &'static str, end: fn() -> BoxFuture<'static, Result<()>>| {
            let order = Arc::clone(&order);
            let hook: Hook = Box::new(move || {
                order.lock().unwrap().push(name);
                end()
            });
            hooks.add(name.to_owned(), hook)
        };
        add("first", || Box::pin(async { Ok(()) })).unwrap();
        add("failing", || {
            Box::pin(async { Err(Error::temporary("pool busy")) })
        })
        .unwrap();
        add("panicking", || panic!("secret")).unwrap();
        add("slow", || Box::pin(std::future::pending())).unwrap();
        assert!(
            add("slow", || Box::pin(async { Ok(()) }))
                .unwrap_err()
                .is_invalid_input()
        );
        assert!(
            add("", || Box::pin(async { Ok(()) }))
                .unwrap_err()
                .is_invalid_input()
        );

        let failed = run_all(hooks.take(), Instant::now() + Duration::from_secs(2)).await;
        assert_eq!(*order.lock().unwrap(), ["slow", "panicking", "failing", "first"]);
        let texts: Vec<String> = failed.iter().map(|error| error.chain().to_string()).collect();
        assert_eq!(
            texts,
            [
                "shutdown hook slow overran its deadline: no answer within 2s",
                "shutdown hook panicking panicked",
                "shutdown hook failing failed: pool busy",
            ]
        );
        let late = hooks.add("late".into(), Box::new(|| Box::pin(async { Ok(()) })));
        assert_eq!(late.unwrap_err().code(), Some(crate::Code::Closed));
    }
}
