//! The plan of faults and the log of operations, shared by a test and the decorators.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cqi_core::{Error, Result};
use tokio::time::sleep;

/// What shall go wrong, and what was done. Clones share both; one handle may serve several decorators.
///
/// Operations go by the name of the port's method: `publish`, `get`, `begin`, `commit`, `register`, `check`, … The handles
/// that ports give out have names of their own: `next`, `leave`, `ack`, `nack` and `extend` of a subscription, `changes` of
/// a watch. Faults of one operation strike in the order they were planned, one per call.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    plans: HashMap<String, VecDeque<Plan>>,
    outage: Option<Error>,
    log: Vec<Operation>,
}

#[derive(Debug)]
enum Plan {
    Fail(Error),
    FailAfter(Error),
    Delay(Duration),
    Hang,
    Panic,
}

/// One call that has ended.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Operation {
    /// The method.
    pub name: &'static str,
    /// What it was about: the topic, key, service name or statement's first word. Never a value.
    pub target: String,
    /// How it ended.
    pub ended: Ended,
}

/// How a call ended.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone)]
pub enum Ended {
    /// With success.
    Ok,
    /// With this error, planned or not.
    Failed(Error),
    /// Its future was dropped, or it panicked.
    Dropped,
}

impl Faults {
    /// The next call of `operation` fails and has no effect.
    pub fn fail_next(&self, operation: &str, error: Error) {
        self.plan(operation, Plan::Fail(error));
    }

    /// The next call of `operation` takes effect, and its caller sees this error, marked as
    /// [`may_have_applied`](Error::may_have_applied): as if the answer was lost.
    pub fn fail_after_applying(&self, operation: &str, error: Error) {
        self.plan(operation, Plan::FailAfter(error.maybe_applied()));
    }

    /// The next call of `operation` waits before it does anything. Time is tokio's.
    pub fn delay_next(&self, operation: &str, delay: Duration) {
        self.plan(operation, Plan::Delay(delay));
    }

    /// The next call of `operation` never ends.
    pub fn hang_next(&self, operation: &str) {
        self.plan(operation, Plan::Hang);
    }

    /// The next call of `operation` panics.
    pub fn panic_next(&self, operation: &str) {
        self.plan(operation, Plan::Panic);
    }

    /// From now on every operation fails with this error and has no effect, until [`Faults::heal`].
    pub fn begin_outage(&self, error: Error) {
        self.lock().outage = Some(error);
    }

    /// Ends an outage and forgets every planned fault.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.outage = None;
        state.plans.clear();
    }

    /// The operations with planned faults that did not strike yet. A test that ends with some of them has most likely
    /// misspelt an operation.
    pub fn unused(&self) -> Vec<String> {
        let state = self.lock();
        let unused = state.plans.iter().filter(|(_, plans)| !plans.is_empty());
        unused.map(|(operation, _)| operation.clone()).collect()
    }

    /// Every operation that has ended, in the order they ended.
    pub fn log(&self) -> Vec<Operation> {
        self.lock().log.clone()
    }

    /// How often `operation` has ended, however it did.
    pub fn count(&self, operation: &str) -> usize {
        self.lock()
            .log
            .iter()
            .filter(|done| done.name == operation)
            .count()
    }

    /// Runs one operation under the plan.
    pub(super) async fn run<T>(
        &self,
        name: &'static str,
        target: impl Into<String>,
        real: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut note = Note {
            faults: self,
            name,
            target: target.into(),
            ended: Ended::Dropped,
        };
        let result = match self.take(name) {
            None => real.await,
            Some(Plan::Fail(error)) => Err(error),
            Some(Plan::FailAfter(error)) => real.await.and(Err(error)),
            Some(Plan::Delay(delay)) => {
                sleep(delay).await;
                real.await
            }
            Some(Plan::Hang) => pending().await,
            Some(Plan::Panic) => panic!("planned panic of {name}"),
        };
        note.ended = match &result {
            Ok(_) => Ended::Ok,
            Err(error) => Ended::Failed(error.clone()),
        };
        result
    }

    fn plan(&self, operation: &str, plan: Plan) {
        self.lock()
            .plans
            .entry(operation.to_owned())
            .or_default()
            .push_back(plan);
    }

    fn take(&self, operation: &str) -> Option<Plan> {
        let mut state = self.lock();
        if let Some(error) = &state.outage {
            return Some(Plan::Fail(error.clone()));
        }
        state.plans.get_mut(operation)?.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes into the log when its operation ends, in whatever way.
struct Note<'a> {
    faults: &'a Faults,
    name: &'static str,
    target: String,
    ended: Ended,
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        let operation = Operation {
            name: self.name,
            target: std::mem::take(&mut self.target),
            ended: self.ended.clone(),
        };
        self.faults.lock().log.push(operation);
    }
}
