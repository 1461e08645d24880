//! The health of a process: its checkers, and what the probes answer.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    CheckOptions, Checker, Report,
    check::{Asked, Check},
};
use crate::{Code, Error, Result, name::check_name};

/// The check's name under which a report says that the service itself is not ready.
const SERVICE: &str = "service";

/// No probe is that patient.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

const NOT_READY: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// The health of a process. Cheap to clone; clones share all.
///
/// Checks run in parallel, each on a task of its own under its own timeout, at most once at a time; an outcome is kept
/// for a second, so that a burst of probes runs each checker once. Nothing latches but the startup probe. A check that
/// hangs or panics counts as failed and harms no other. Dropping the last clone ends running checks.
#[derive(Clone, Default)]
pub struct Health(Arc<Inner>);

struct Inner {
    checks: RwLock<Vec<Arc<Check>>>,
    tasks: Mutex<JoinSet<()>>,
    phase: AtomicU8,
    started: AtomicBool,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            checks: RwLock::default(),
            tasks: Mutex::default(),
            phase: AtomicU8::new(READY),
            started: AtomicBool::new(false),
        }
    }
}

impl Health {
    /// No checkers, and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the check `database` (HLT-3).
    ///
    /// # Errors
    /// As [`Health::register`].
    pub fn with_database_check(self, checker: Arc<dyn Checker>) -> Result<Self> {
        self.register_checker("database", checker)?;
        Ok(self)
    }

    /// Adds the check `cache` (HLT-3).
    ///
    /// # Errors
    /// As [`Health::register`].
    pub fn with_cache_check(self, checker: Arc<dyn Checker>) -> Result<Self> {
        self.register_checker("cache", checker)?;
        Ok(self)
    }

    /// Adds the check `event_bus` (HLT-3, OP-26).
    ///
    /// # Errors
    /// As [`Health::register`].
    pub fn with_event_bus_check(self, checker: Arc<dyn Checker>) -> Result<Self> {
        self.register_checker("event_bus", checker)?;
        Ok(self)
    }

    /// Adds a checker under `name` with the default options (HLT-2).
    ///
    /// # Errors
    /// As [`Health::register`].
    pub fn register_checker(&self, name: &str, checker: Arc<dyn Checker>) -> Result<()> {
        self.add(name, checker, CheckOptions::default())
    }

    /// Adds a checker under its own name.
    ///
    /// # Errors
    /// `InvalidInput` for a name outside `[a-z][a-z0-9_-]*`, the name `service`, or a timeout of zero or over an hour;
    /// `InvalidInput`/`AlreadyExists` for a name in use (ML-HLT-1).
    pub fn register(&self, checker: Arc<dyn Checker>, options: CheckOptions) -> Result<()> {
        let name = checker.name().to_owned();
        self.add(&name, checker, options)
    }

    /// Removes a checker. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut checks = self.0.checks.write().unwrap_or_else(PoisonError::into_inner);
        let before = checks.len();
        checks.retain(|check| *check.name != *name);
        checks.len() < before
    }

    /// Says whether the service is to be sent work; while it is not, [`Health::ready`] is unhealthy whatever the checks
    /// say. Has no effect after [`Health::drain`].
    pub fn set_ready(&self, ready: bool) {
        let next = if ready { READY } else { NOT_READY };
        // The only other writer is `drain`, and that is final.
        let _ = self
            .0
            .phase
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |phase| {
                (phase != DRAINING).then_some(next)
            });
    }

    /// Turns readiness off for good: shutdown has begun (ML-HLT-6).
    pub fn drain(&self) {
        self.0.phase.store(DRAINING, Ordering::Release);
    }

    /// Whether the process runs: healthy, at once and without any check (HLT-4).
    pub fn live(&self) -> Report {
        Report::healthy()
    }

    /// Whether the service can be sent work: it is ready, and the required readiness checks pass (HLT-5). Takes no
    /// longer than the longest timeout of a check.
    ///
    /// Cancel safety: dropping the future leaves running checks to other callers.
    pub async fn ready(&self) -> Report {
        if let Some(report) = self.service() {
            return report;
        }
        let report = self.run(|options| options.ready).await;
        // The shutdown may have begun meanwhile.
        self.service().unwrap_or(report)
    }

    /// Whether start-up is done: the service was ready and all required startup checks passed in one probe. Once
    /// healthy, always healthy, and no check is run any more (ML-HLT-4). Cancel-safe as [`Health::ready`].
    pub async fn startup(&self) -> Report {
        if self.0.started.load(Ordering::Acquire) {
            return Report::healthy();
        }
        if let Some(report) = self.service() {
            return report;
        }
        let report = self.run(|options| options.startup).await;
        if report.is_healthy() {
            self.0.started.store(true, Ordering::Release);
        }
        report
    }

    /// All checks in detail, of whatever probe (ML-HLT-2), with the readiness of the service. Cancel-safe as
    /// [`Health::ready`].
    pub async fn report(&self) -> Report {
        let mut report = self.run(|_| true).await;
        if let Some(service) = self.service() {
            report.status = service.status;
            report.checks.extend(service.checks);
        }
        report
    }

    fn add(&self, name: &str, checker: Arc<dyn Checker>, options: CheckOptions) -> Result<()> {
        check_name(name, "health check name")?;
        if name == SERVICE {
            return Err(Error::invalid_input(
                "health check name service is kept for the service itself",
            ));
        }
        if options.timeout.is_zero() || options.timeout > MAX_TIMEOUT {
            return Err(Error::invalid_input(
                "health check timeout must be above zero and at most an hour",
            ));
        }
        let mut checks = self.0.checks.write().unwrap_or_else(PoisonError::into_inner);
        if checks.iter().any(|check| *check.name == *name) {
            return Err(Error::invalid_input("health check name is in use")
                .with_code(Code::AlreadyExists)
                .with_context("name", name));
        }
        checks.push(Arc::new(Check::new(name.into(), checker, options)));
        Ok(())
    }

    /// An unhealthy report if the service itself is not ready.
    fn service(&self) -> Option<Report> {
        let why = match self.0.phase.load(Ordering::Acquire) {
            READY => return None,
            DRAINING => "shutting down",
            _ => "not ready",
        };
        let mut report = Report::healthy();
        report.add(SERVICE.into(), Err(Error::temporary(why)).into(), true);
        Some(report)
    }

    async fn run(&self, takes_part: impl Fn(&CheckOptions) -> bool + Send) -> Report {
        let asked = self.ask_all(takes_part);
        let mut report = Report::healthy();
        for (check, asked) in asked {
            let outcome = check.outcome(asked).await;
            report.add(Arc::clone(&check.name), outcome, check.options.required);
        }
        report
    }

    /// Starts what must be started, all at once.
    fn ask_all(&self, takes_part: impl Fn(&CheckOptions) -> bool) -> Vec<(Arc<Check>, Asked)> {
        let checks = self.0.checks.read().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {} // forget those that ended
        checks
            .iter()
            .filter(|check| takes_part(&check.options))
            .map(|check| (Arc::clone(check), check.ask(&mut tasks)))
            .collect()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = self.0.checks.read().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<_> = checks.iter().map(|check| &check.name).collect();
        f.debug_struct("Health")
            .field("checks", &names)
            .field("started", &self.0.started)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
