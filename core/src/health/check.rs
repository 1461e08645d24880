//! One registered check: run at most once at a time and once a second, on a task of its own.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{Checker, Outcome};
use crate::Error;

/// How long an outcome is told again without a new check (HLT-9).
const KEPT: Duration = Duration::from_secs(1);

/// How a checker takes part.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Whether it takes part in the readiness probe. Default true.
    pub ready: bool,
    /// Whether it takes part in the startup probe. Default false.
    pub startup: bool,
    /// Whether its failure makes the report unhealthy; else it only shows. Default true.
    pub required: bool,
    /// When a check that has not ended counts as failed (HLT-6). Default 5 s.
    pub timeout: Duration,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            ready: true,
            startup: false,
            required: true,
            timeout: Duration::from_secs(5),
        }
    }
}

#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: Arc<str>,
    pub(super) options: CheckOptions,
    checker: Arc<dyn Checker>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Last,
    /// Whether the last outcome was a failure, so that only changes are logged.
    failing: bool,
}

#[derive(Debug, Default)]
enum Last {
    #[default]
    Never,
    Running(Run),
    Done(Instant, Outcome),
}

/// A run under way.
#[derive(Debug, Clone)]
struct Run {
    ends: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// What a probe gets of a check at first.
pub(super) struct Asked(Result<Outcome, Run>);

impl Check {
    pub(super) fn new(name: Arc<str>, checker: Arc<dyn Checker>, options: CheckOptions) -> Self {
        Self {
            name,
            options,
            checker,
            state: Mutex::default(),
        }
    }

    /// The kept outcome, or the run under way, or a new one on `tasks`.
    pub(super) fn ask(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Asked {
        let mut state = self.lock();
        match &state.last {
            Last::Done(at, outcome) if at.elapsed() < KEPT => return Asked(Ok(outcome.clone())),
            // A run whose task is gone, with its runtime, has left neither an outcome nor a sender.
            Last::Running(run) if run.outcome.has_changed().is_ok() => return Asked(Err(run.clone())),
            _ => {}
        }
        let (told, outcome) = watch::channel(None);
        let run = Run {
            ends: Instant::now() + self.options.timeout,
            outcome,
        };
        state.last = Last::Running(run.clone());
        drop(state);
        let check = Arc::clone(self);
        tasks.spawn(async move {
            let outcome = check.run().await;
            check.note(&outcome);
            told.send_replace(Some(outcome));
        });
        Asked(Err(run))
    }

    /// Waits for the outcome, but never past the timeout, not even when the check blocks its thread.
    pub(super) async fn outcome(&self, asked: Asked) -> Outcome {
        let mut run = match asked.0 {
            Ok(outcome) => return outcome,
            Err(run) => run,
        };
        match timeout_at(run.ends, run.outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| self.cut()),
            Ok(Err(_gone)) => Err(Error::temporary("check was cut off by the runtime's end")).into(),
            Err(_elapsed) => self.cut(),
        }
    }

    async fn run(&self) -> Outcome {
        let check = AssertUnwindSafe(async { self.checker.check().await }).catch_unwind();
        match timeout(self.options.timeout, check).await {
            Ok(Ok(result)) => result.into(),
            Ok(Err(_panic)) => Err(Error::panicked("check")).into(),
            Err(_elapsed) => self.cut(),
        }
    }

    fn cut(&self) -> Outcome {
        Err(Error::timeout(self.options.timeout)).into()
    }

    /// Keeps an outcome and logs it if it is news (HLT-8).
    fn note(&self, outcome: &Outcome) {
        let mut state = self.lock();
        state.last = Last::Done(Instant::now(), outcome.clone());
        let was_failing = std::mem::replace(&mut state.failing, !outcome.is_ok());
        drop(state);
        let check = &*self.name;
        match outcome.error() {
            Some(error) if !was_failing => {
                tracing::warn!(check, required = self.options.required, error = %error.chain(), "health check fails");
            }
            None if was_failing => tracing::info!(check, "health check passes again"),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
