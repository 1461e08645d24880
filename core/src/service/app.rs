//! The app: what a process is made of, from its first check to its exit code.

use std::{fmt, future::Future, pin::pin, process::ExitCode, sync::Arc, time::Duration};

use super::{
    AppHandle, DependencyOptions, Service, ServiceMetadata, Signals, State,
    app_handle::{Ending, Shared},
    dependency::Dependency,
    drain::drain,
    signal::{Interrupted, Listener},
    start::{first_end, start},
    task::together,
};
use crate::{
    Error, Result,
    health::{Checker, Health},
    name::check_name,
};

pub(super) type Readiness = Box<dyn Fn(bool) + Send + Sync>;

/// Starts services in order, runs them until a signal or a failure, and stops them in reverse order.
///
/// # Start-up
/// One fixed order, each step logged: the configuration is checked; all dependencies are checked at the same time;
/// services start in the order they were added, each once the one before is ready, so servers are added last; then the
/// app is ready. When a step fails, what was started is stopped in reverse, and the error names the step.
///
/// # Shutdown
/// It begins with a signal, [`AppHandle::request_shutdown`], or a service that fails, panics or ends by itself. One
/// fixed order under one deadline: not ready; the drain delay; services in reverse order; hooks, last registered first.
/// What is still running at the deadline is aborted and named in the error; what has not had its turn by then gets
/// 100 ms.
///
/// ```
/// use cqi_core::service::{App, ServiceMetadata, Signals, start_stop};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cqi_core::Result<()> {
/// let app = App::new(ServiceMetadata::new("greeter", "1.0.0"))?
///     .signals(Signals::none())
///     .service(start_stop("worker", || async { Ok(()) }, |()| async { Ok(()) }))
///     .on_shutdown("goodbye", || async { Ok(()) });
/// let handle = app.handle();
/// let (ended, _) = tokio::join!(app.run(), async {
///     handle.running().await?;
///     handle.shutdown().await
/// });
/// ended
/// # }
/// ```
#[must_use = "an app does nothing until it is run"]
pub struct App {
    ending: Ending,
    last: Option<Box<dyn FnOnce() + Send>>,
    plan: Plan,
}

/// What an app will do.
pub(super) struct Plan {
    pub(super) metadata: ServiceMetadata,
    pub(super) services: Vec<Box<dyn Service>>,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) readiness: Option<Readiness>,
    pub(super) start_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) drain_delay: Duration,
    signals: Signals,
    faults: Vec<Error>,
}

impl App {
    /// An app of nothing yet.
    ///
    /// # Errors
    /// `InvalidInput` listing every fault of the metadata (ML-CORE-3).
    pub fn new(metadata: ServiceMetadata) -> Result<Self> {
        metadata.validate()?;
        Ok(Self {
            ending: Ending(AppHandle::new(metadata.name.clone())),
            last: None,
            plan: Plan {
                metadata,
                services: Vec::new(),
                dependencies: Vec::new(),
                readiness: None,
                start_timeout: Duration::from_secs(30),
                shutdown_timeout: Duration::from_secs(30),
                drain_delay: Duration::ZERO,
                signals: Signals::default(),
                faults: Vec::new(),
            },
        })
    }

    /// Adds a service. A malformed or repeated name makes [`App::run`] fail.
    pub fn service(mut self, service: impl Service) -> Self {
        self.plan.services.push(Box::new(service));
        self
    }

    /// Adds what must be well before anything starts. A malformed or repeated name makes [`App::run`] fail.
    pub fn dependency(mut self, checker: Arc<dyn Checker>, options: DependencyOptions) -> Self {
        self.plan.dependencies.push((checker, options));
        self
    }

    /// Adds an async function to be called at the end of the shutdown, also of a failed start; the last added is
    /// called first. A malformed or repeated name makes [`App::run`] fail.
    pub fn on_shutdown<F, Fut>(mut self, name: impl Into<String>, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.plan
            .faults
            .extend(self.ending.0.on_shutdown(name, hook).err());
        self
    }

    /// Calls `tell` with `true` when every service is ready, and with `false` when shutdown begins. It must not block.
    pub fn readiness(mut self, tell: impl Fn(bool) + Send + Sync + 'static) -> Self {
        self.plan.readiness = Some(Box::new(tell));
        self
    }

    /// Keeps `health` unready until every service is ready, and turns it off for good when shutdown begins. Takes the
    /// place of [`App::readiness`].
    pub fn health(self, health: &Health) -> Self {
        health.set_ready(false);
        let health = health.clone();
        self.readiness(move |ready| {
            if ready {
                health.set_ready(true)
            } else {
                health.drain()
            }
        })
    }

    /// How long each service has to become ready. Default 30 s; zero is refused.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.plan.start_timeout = limit;
        self
    }

    /// How long the whole shutdown may take. Default 30 s; zero is refused.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.plan.shutdown_timeout = limit;
        self
    }

    /// How long the services go on after readiness was taken back, so that load balancers notice. Part of the
    /// shutdown's time and shorter than it. Default zero.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.plan.drain_delay = delay;
        self
    }

    /// Calls `last` before [`App::run_to_exit`] ends the process after a second signal, for example to write out the log.
    /// It may block, and should do so for a moment at most.
    pub fn before_exit(mut self, last: impl FnOnce() + Send + 'static) -> Self {
        self.last = Some(Box::new(last));
        self
    }

    /// Which signals end the app. Default `SIGTERM` and `SIGINT`.
    pub fn signals(mut self, signals: Signals) -> Self {
        self.plan.signals = signals;
        self
    }

    /// A handle to watch and end the app.
    pub fn handle(&self) -> AppHandle {
        self.ending.0.clone()
    }

    /// Runs the app to its end.
    ///
    /// A first signal begins the shutdown; a second one aborts everything at once. Dropping the future aborts
    /// everything as well, without hooks.
    ///
    /// # Errors
    /// Every fault of the configuration; the failed start; the service that ended, failed or panicked while running;
    /// what was not clean in the shutdown; `Cancelled` after a second signal.
    pub async fn run(self) -> Result<()> {
        let Self { ending, plan, .. } = self;
        let result = plan.run(ending.0.shared()).await;
        match &result {
            Ok(()) => tracing::info!("stopped"),
            Err(error) => tracing::error!(error = %error.chain(), "failed"),
        }
        ending.0.shared().finish(result.clone());
        result
    }

    /// Runs the app for `main`: exit code 0 after a clean shutdown, 1 after an error, which has been logged.
    ///
    /// After a second signal it calls [`std::process::exit`] with 128 and the signal's number, 130 or 143 by default:
    /// whoever sends it does not want to wait for threads that may be stuck.
    pub async fn run_to_exit(mut self) -> ExitCode {
        let last = self.last.take();
        let Err(error) = self.run().await else {
            return ExitCode::SUCCESS;
        };
        let Some(signal) = Interrupted::find(&error) else {
            return ExitCode::FAILURE;
        };
        if let Some(last) = last {
            last();
        }
        std::process::exit(signal.exit_code().into())
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<&str> = self.plan.services.iter().map(|service| service.name()).collect();
        f.debug_struct("App")
            .field("metadata", &self.plan.metadata)
            .field("services", &services)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Lives the app's life until its end or the second signal.
    async fn run(mut self, shared: &Shared) -> Result<()> {
        let mut signals = std::mem::replace(&mut self.signals, Signals::none())
            .listen()
            .unwrap_or_else(|error| {
                self.faults.push(error);
                Listener::System(Vec::new())
            });
        let mut life = pin!(self.live(shared));
        let mut asked = false;
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if asked {
                        tracing::error!(%signal, "second signal, everything is aborted");
                        return Err(Interrupted::error(signal));
                    }
                    tracing::info!(%signal, "signal, shutting down");
                    asked = true;
                    shared.shutdown.cancel();
                }
                result = &mut life => return result,
            }
        }
    }

    async fn live(mut self, shared: &Shared) -> Result<()> {
        shared.enter(State::Starting);
        let mut running = Vec::new();
        let cause = tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => Ok(()),
            error = self.start_and_run(shared, &mut running) => Err(error),
        };
        if let Err(error) = &cause {
            tracing::error!(error = %error.chain(), "shutting down because of an error");
        }
        let was_running = *shared.state() == State::Running;
        let delay = if was_running {
            self.drain_delay
        } else {
            Duration::ZERO
        };
        shared.enter(State::Stopping);
        if let Some(tell) = &self.readiness {
            tell(false);
        }
        let hooks = shared.hooks(super::hooks::Hooks::take);
        let unclean = drain(&mut running, hooks, delay, self.shutdown_timeout).await;
        match (cause, together("shutdown was not clean", &unclean)) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(unclean)) => Err(unclean),
            (Err(cause), None) => Err(cause),
            (Err(cause), Some(unclean)) => Err(cause.with_context("shutdown", unclean.message())),
        }
    }

    /// Starts everything and watches it; returns only when something fails.
    async fn start_and_run(&mut self, shared: &Shared, running: &mut Vec<super::ServiceHandle>) -> Error {
        if let Err(error) = start(self, running).await {
            return error;
        }
        // First, so that who sees it running finds it ready.
        if let Some(tell) = &self.readiness {
            tell(true);
        }
        shared.enter(State::Running);
        tracing::info!("start: ready");
        first_end(running).await
    }

    /// Everything that is wrong with the plan, as one error.
    pub(super) fn check(&mut self) -> Result<()> {
        let mut faults = std::mem::take(&mut self.faults);
        let services = self.services.iter().map(|service| ("service", service.name()));
        let dependencies = self
            .dependencies
            .iter()
            .map(|(checker, _)| ("dependency", checker.name()));
        let mut seen = Vec::new();
        for (what, name) in services.chain(dependencies) {
            faults.extend(check_name(name, what).err());
            if seen.contains(&(what, name)) {
                faults.push(Error::invalid_input(format!("{what} {name} is added twice")));
            }
            seen.push((what, name));
        }
        let mut refuse = |wrong: bool, why: &'static str| {
            faults.extend(wrong.then(|| Error::invalid_input(why)));
        };
        refuse(self.start_timeout.is_zero(), "start timeout must not be zero");
        refuse(
            self.shutdown_timeout.is_zero(),
            "shutdown timeout must not be zero",
        );
        refuse(
            self.drain_delay >= self.shutdown_timeout.max(Duration::from_nanos(1)),
            "drain delay must be shorter than the shutdown timeout",
        );
        for (_, options) in &self.dependencies {
            refuse(options.timeout.is_zero(), "dependency timeout must not be zero");
            refuse(options.tries == 0, "dependency tries must be at least 1");
        }
        together("configuration of the app", &faults).map_or(Ok(()), Err)
    }
}
