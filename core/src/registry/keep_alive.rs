//! Keeping an instance registered for as long as its service runs.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{Instance, Registry, ServiceInfo};
use crate::{
    Code, Error, Result,
    policy::{Backoff, later},
    service::{Lifecycle, Service},
};

/// The longest that one call to the registry may take.
const CALL: Duration = Duration::from_secs(5);

/// How an instance is kept alive.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAliveOptions {
    /// The time from one heartbeat to the next. Default 10 s (REG-6).
    pub interval: Duration,
    /// The registry's time to live, which must be longer than the interval (OP-27). Default 30 s (REG-5).
    pub ttl: Duration,
}

impl Default for KeepAliveOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            ttl: Duration::from_secs(30),
        }
    }
}

/// The service `registry`: registers an instance, renews it, registers it anew when it has expired, and deregisters it
/// when it is to stop. Start it last, so that it stops first.
///
/// It is ready once registered. While the registry is down it tries on; only a registration that is refused, or a
/// closed registry, ends it with an error. A registration whose reply is lost leaves a record of its own behind until
/// that expires, and so does a run that is dropped.
pub struct KeepAlive {
    registry: Arc<dyn Registry>,
    info: ServiceInfo,
    interval: Duration,
    current: watch::Sender<Option<Instance>>,
}

impl KeepAlive {
    /// Keeps `info` registered.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid `info`, a zero interval, or one that is not below the time to live.
    pub fn new(registry: Arc<dyn Registry>, info: ServiceInfo, options: KeepAliveOptions) -> Result<Self> {
        info.validate()?;
        if options.interval.is_zero() || options.interval >= options.ttl {
            return Err(Error::invalid_input(
                "registry heartbeat interval must be above zero and below the time to live",
            ));
        }
        Ok(Self {
            registry,
            info,
            interval: options.interval,
            current: watch::Sender::new(None),
        })
    }

    /// Shows the instance as it is registered: `None` before the first registration, when the registry says that it has
    /// expired, and after the end. While the registry does not answer, the last one stays.
    pub fn instance(&self) -> watch::Receiver<Option<Instance>> {
        self.current.subscribe()
    }

    /// One heartbeat, or one registration if there is nothing to renew.
    async fn beat(&self) -> Result<()> {
        let id = self.current.borrow().as_ref().map(|instance| instance.id);
        if let Some(id) = id {
            match self.call("registry.heartbeat", self.registry.heartbeat(id)).await {
                Err(error) if error.is_not_found() => {
                    tracing::warn!(service = self.info.name, %id, "registration expired, registering again");
                    self.current.send_replace(None);
                }
                result => return result,
            }
        }
        let register = self.registry.register(self.info.clone());
        let instance = self.call("registry.register", register).await?;
        tracing::info!(service = self.info.name, id = %instance.id, "registered");
        self.current.send_replace(Some(instance));
        Ok(())
    }

    async fn end(&self) {
        let Some(instance) = self.current.send_replace(None) else {
            return;
        };
        let deregister = self.registry.deregister(instance.id);
        match self.call("registry.deregister", deregister).await {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(service = self.info.name, id = %instance.id, error = %error.chain(),
                    "deregistering failed, the registration will expire");
            }
            _ => tracing::info!(service = self.info.name, id = %instance.id, "deregistered"),
        }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let limit = CALL.min(self.interval);
        timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(Error::timeout(limit).with_operation(operation)))
    }
}

#[async_trait]
impl Service for KeepAlive {
    fn name(&self) -> &str {
        "registry"
    }

    async fn run(self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        let backoff = Backoff::default();
        let mut failures = 0;
        let mut registered_once = false;
        while !lifecycle.is_shutting_down() {
            let started = Instant::now();
            // A call is never dropped midway at shutdown: it may have applied, and then it must be undone.
            match self.beat().await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(service = self.info.name, "registry answers again");
                    }
                    failures = 0;
                    registered_once = true;
                    lifecycle.ready();
                }
                Err(error) if error.code() == Some(Code::Closed) => return Err(error),
                Err(error) if !registered_once && !error.is_temporary() => return Err(error),
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(service = self.info.name, error = %error.chain(), "keeping the registration fails");
                    }
                    failures += 1;
                }
            }
            let pause = match failures {
                0 => self.interval,
                // Sooner than the next beat is due: the time to live is running out.
                n => backoff.delay(n).min(self.interval),
            };
            tokio::select! {
                () = lifecycle.shutdown() => break,
                () = sleep_until(later(started, pause)) => {}
            }
        }
        self.end().await;
        Ok(())
    }
}

impl fmt::Debug for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlive")
            .field("info", &self.info)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        task::JoinSet,
        time::{advance, sleep},
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::registry::testing::Faulty;

    const SECOND: Duration = Duration::from_secs(1);

    struct Running {
        registry: Arc<Faulty>,
        instance: watch::Receiver<Option<Instance>>,
        ready: watch::Receiver<bool>,
        stop: CancellationToken,
        tasks: JoinSet<Result<()>>,
    }

    impl Running {
        fn start(fault: Option<Error>) -> Self {
            let registry = Arc::new(Faulty::default());
            registry.fail(fault);
            let port: Arc<dyn Registry> = Arc::<Faulty>::clone(&registry);
            let service = KeepAlive::new(port, info(), KeepAliveOptions::default()).unwrap();
            let stop = CancellationToken::new();
            let (lifecycle, ready) = Lifecycle::new(stop.clone());
            let instance = service.instance();
            let mut tasks = JoinSet::new();
            tasks.spawn(Box::new(service).run(lifecycle));
            Self {
                registry,
                instance,
                ready,
                stop,
                tasks,
            }
        }

        async fn registered(&mut self) -> Instance {
            let instance = self.instance.wait_for(Option::is_some);
            let instance = timeout(SECOND * 60, instance).await.expect("registered");
            instance.unwrap().clone().unwrap()
        }

        async fn found(&self) -> Vec<Instance> {
            self.registry.registry.discover("a").await.unwrap()
        }

        async fn end(&mut self) -> Result<()> {
            self.stop.cancel();
            let ended = timeout(SECOND * 10, self.tasks.join_next()).await;
            ended.expect("the end").unwrap().unwrap()
        }
    }

    fn info() -> ServiceInfo {
        ServiceInfo::new("a", "1", "127.0.0.1", 1)
    }

    #[tokio::test(start_paused = true)]
    async fn reg_6_8_it_registers_renews_and_deregisters() {
        let mut running = Running::start(None);
        let instance = running.registered().await;
        assert!(*running.ready.borrow_and_update());
        sleep(SECOND * 95).await;
        assert_eq!(running.found().await, [instance]);
        assert_eq!(running.registry.calls("heartbeat"), 9);
        running.end().await.unwrap();
        assert_eq!(running.found().await, []);
        assert_eq!(*running.instance.borrow(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn op_27_f_reg_03_after_a_pause_it_registers_anew_and_there_is_one_record() {
        let mut running = Running::start(None);
        let old = running.registered().await;
        // The runtime does not come to its timers for three times to live.
        advance(SECOND * 90).await;
        let expired = running.found().await;
        assert_eq!(expired, []);
        let changed = |instance: &Option<Instance>| instance.as_ref().is_some_and(|new| new.id != old.id);
        let new = running.instance.wait_for(changed).await.unwrap().clone().unwrap();
        assert_eq!(running.found().await, [new]);
        running.end().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_at_the_start_delays_readiness() {
        let mut running = Running::start(Some(Error::temporary("connection refused")));
        sleep(SECOND * 60).await;
        assert!(!*running.ready.borrow());
        running.registry.fail(None);
        running.registered().await;
        running.end().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_later_is_survived() {
        let mut running = Running::start(None);
        running.registered().await;
        running.registry.hang(true);
        sleep(SECOND * 60).await;
        running.registry.hang(false);
        sleep(SECOND * 11).await;
        assert_eq!(running.found().await.len(), 1);
        running
            .registry
            .fail(Some(Error::temporary("connection refused")));
        running.end().await.unwrap();
    }

    /// REG-10: closing the registry ends the heartbeats.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_at_the_start_and_a_closed_registry_end_it() {
        let refused = Error::unauthorized("no");
        let mut running = Running::start(Some(refused));
        assert!(
            running
                .tasks
                .join_next()
                .await
                .unwrap()
                .unwrap()
                .unwrap_err()
                .is_unauthorized()
        );
        let mut running = Running::start(None);
        running.registered().await;
        running.registry.registry.close().await.unwrap();
        let error = running.tasks.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.code(), Some(Code::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_during_an_outage_takes_no_longer_than_a_call() {
        let mut running = Running::start(None);
        running.registered().await;
        running.registry.hang(true);
        let started = Instant::now();
        running.end().await.unwrap();
        assert!(started.elapsed() <= CALL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_interval_is_for_ever() {
        let options = KeepAliveOptions {
            interval: Duration::MAX - SECOND,
            ttl: Duration::MAX,
        };
        let registry: Arc<dyn Registry> = Arc::new(Faulty::default());
        let service = KeepAlive::new(Arc::clone(&registry), info(), options).unwrap();
        let (lifecycle, _ready) = Lifecycle::new(CancellationToken::new());
        let run = timeout(SECOND * 100, Box::new(service).run(lifecycle));
        assert!(run.await.is_err());
    }

    #[tokio::test]
    async fn op_27_bad_options_are_refused() {
        let registry: Arc<dyn Registry> = Arc::new(Faulty::default());
        for (interval, ttl) in [(0, 30), (30, 30), (31, 30)] {
            let options = KeepAliveOptions {
                interval: SECOND * interval,
                ttl: SECOND * ttl,
            };
            let result = KeepAlive::new(Arc::clone(&registry), info(), options);
            assert!(result.unwrap_err().is_invalid_input());
        }
        let bad = ServiceInfo::new("a", "1", "", 1);
        let result = KeepAlive::new(registry, bad, KeepAliveOptions::default());
        assert!(result.unwrap_err().is_invalid_input());
    }
}
