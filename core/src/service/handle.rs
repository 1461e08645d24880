//! One running service: started, watched and stopped (SVC-1).

use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Lifecycle, Service, task::outcome};
use crate::{Code, Error, Result, policy::later};

/// A service in a task of its own. Dropping the handle aborts the service; [`ServiceHandle::stop`] lets it finish.
pub struct ServiceHandle {
    name: String,
    shutdown: CancellationToken,
    ready: watch::Receiver<bool>,
    task: JoinSet<Result<()>>,
    abort: AbortHandle,
    ended: Option<Result<()>>,
}

impl ServiceHandle {
    /// Starts `service` and waits until it is ready, at most `limit`.
    ///
    /// Cancel safety: dropping the future aborts the service.
    ///
    /// # Errors
    /// Why the service failed, panicked, ended before it was ready, or was not ready in time.
    pub async fn start(service: impl Service, limit: Duration) -> Result<Self> {
        let mut handle = Self::spawn(Box::new(service));
        handle.wait_ready(limit).await?;
        Ok(handle)
    }

    /// Starts `service` without waiting.
    pub(super) fn spawn(service: Box<dyn Service>) -> Self {
        let name = service.name().to_owned();
        let shutdown = CancellationToken::new();
        let (lifecycle, ready) = Lifecycle::new(shutdown.clone());
        let mut task = JoinSet::new();
        // Called inside the task, so that a panic before the first await is caught as well.
        let abort = task.spawn(async move { service.run(lifecycle).await });
        Self {
            name,
            shutdown,
            ready,
            task,
            abort,
            ended: None,
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the service is ready and still runs.
    ///
    /// # Errors
    /// `Temporary`/`Unavailable` while it starts, after it was asked to stop, and when it has ended.
    pub fn health(&self) -> Result<()> {
        let state = if self.abort.is_finished() {
            "has ended"
        } else if self.shutdown.is_cancelled() {
            "is stopping"
        } else if !*self.ready.borrow() {
            "is starting"
        } else {
            return Ok(());
        };
        Err(Error::temporary(format!("service {} {state}", self.name)).with_code(Code::Unavailable))
    }

    /// Asks the service to stop and waits for it, at most `limit`; then it is aborted. Stopping again gives the same
    /// result.
    ///
    /// Cancel safety: the request to stop stays, and waiting can be taken up again.
    ///
    /// # Errors
    /// The service's own error, its panic, or `Timeout` when it had to be aborted.
    pub async fn stop(&mut self, limit: Duration) -> Result<()> {
        self.stop_until(later(Instant::now(), limit)).await
    }

    pub(super) async fn stop_until(&mut self, deadline: Instant) -> Result<()> {
        let begun = Instant::now();
        self.shutdown.cancel();
        let waited = timeout_at(deadline, std::future::poll_fn(|context| self.poll_ended(context))).await;
        waited.unwrap_or_else(|_| {
            self.task.abort_all();
            let error = Error::timeout(deadline - begun).wrap(format!(
                "service {} overran its deadline and was aborted",
                self.name
            ));
            self.ended = Some(Err(error.clone()));
            Err(error)
        })
    }

    pub(super) async fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let mut ready = self.ready.clone();
        let name = self.name.clone();
        tokio::select! {
            biased;
            // Without the lifecycle nobody can say it any more; the end of the task tells the rest.
            Ok(_) = ready.wait_for(|ready| *ready) => Ok(()),
            ended = std::future::poll_fn(|context| self.poll_ended(context)) => Err(ended.err().unwrap_or_else(|| {
                Error::permanent(format!("service {name} ended before it was ready"))
            })),
            () = tokio::time::sleep(limit) => {
                Err(Error::timeout(limit).wrap(format!("service {name} was not ready in time")))
            }
        }
    }

    /// Ready when the service has ended, with its result; the same again when asked again.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(ended) = &self.ended {
            return Poll::Ready(ended.clone());
        }
        self.task.poll_join_next(context).map(|joined| {
            let result = outcome(&format!("service {}", self.name), joined);
            self.ended.insert(result).clone()
        })
    }

    /// Whether the end of the service has been seen.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

impl fmt::Debug for ServiceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandle")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Makes a service of a pair: `start` brings it up and gives what `stop` needs to take it down.
///
/// A wish to stop while `start` runs drops it (SVC-9); `stop` is called only after `start` succeeded, and once.
pub fn start_stop<T, S, SFut, E, EFut>(name: impl Into<String>, start: S, stop: E) -> impl Service
where
    T: Send + 'static,
    S: FnOnce() -> SFut + Send + 'static,
    SFut: Future<Output = Result<T>> + Send + 'static,
    E: FnOnce(T) -> EFut + Send + 'static,
    EFut: Future<Output = Result<()>> + Send + 'static,
{
    super::service_fn(name, |lifecycle: Lifecycle| async move {
        let started = tokio::select! {
            started = start() => started?,
            () = lifecycle.shutdown() => return Ok(()),
        };
        lifecycle.ready();
        lifecycle.shutdown().await;
        stop(started).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::service_fn;

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn svc_1_start_health_stop() {
        let service = start_stop(
            "worker",
            || async { Ok(7) },
            |seven: i32| async move {
                assert_eq!(seven, 7);
                Ok(())
            },
        );
        let mut handle = ServiceHandle::start(service, LIMIT).await.unwrap();
        assert_eq!(handle.name(), "worker");
        handle.health().unwrap();
        handle.stop(LIMIT).await.unwrap();
        assert!(handle.health().unwrap_err().to_string().contains("has ended"));
        handle.stop(LIMIT).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_may_take_for_ever() {
        let slow = || {
            service_fn("slow", |lifecycle: Lifecycle| async move {
                lifecycle.ready();
                lifecycle.shutdown().await;
                tokio::time::sleep(LIMIT * 3600).await;
                Ok(())
            })
        };
        let mut handle = ServiceHandle::start(slow(), Duration::MAX).await.unwrap();
        handle.stop(Duration::MAX).await.unwrap();

        let well = std::sync::Arc::new(crate::health::check_fn("database", || async { Ok(()) }));
        let app = crate::service::App::new(crate::service::ServiceMetadata::new("test", "1.0.0"))
            .unwrap()
            .signals(crate::service::Signals::none())
            .dependency(
                well,
                crate::service::DependencyOptions::default().with_timeout(Duration::MAX),
            )
            .service(slow())
            .shutdown_timeout(Duration::MAX);
        let handle = app.handle();
        let (ended, _) = tokio::join!(app.run(), async {
            handle.running().await.unwrap();
            handle.shutdown().await
        });
        ended.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn svc_9_stopping_drops_a_start_that_hangs() {
        let service = start_stop("slow", std::future::pending::<Result<()>>, |()| async { Ok(()) });
        let mut handle = ServiceHandle::spawn(Box::new(service));
        assert!(handle.health().unwrap_err().to_string().contains("is starting"));
        handle.stop(LIMIT).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_must_be_ready_in_time_and_not_end_before() {
        let mute = service_fn("x", |lifecycle: Lifecycle| async move {
            lifecycle.shutdown().await;
            Ok(())
        });
        let error = ServiceHandle::start(mute, LIMIT).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Timeout));
        let early = service_fn("x", |_| async { Ok(()) });
        let error = ServiceHandle::start(early, LIMIT).await.unwrap_err();
        assert_eq!(error.to_string(), "service x ended before it was ready");
        let panicking = service_fn("x", |_| async { panic!("secret") });
        let error = ServiceHandle::start(panicking, LIMIT).await.unwrap_err();
        assert_eq!(error.chain().to_string(), "service x panicked");
    }

    #[tokio::test(start_paused = true)]
    async fn svc_7_what_overruns_is_aborted_and_named() {
        let stubborn = service_fn("stubborn", |lifecycle: Lifecycle| async move {
            lifecycle.ready();
            std::future::pending().await
        });
        let mut handle = ServiceHandle::start(stubborn, LIMIT).await.unwrap();
        let error = handle.stop(LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("service stubborn overran"), "{error}");
        assert_eq!(error.code(), Some(Code::Timeout));
    }
}
