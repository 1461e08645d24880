//! The service port: one future from start to end, with readiness said explicitly.

use std::{fmt, future::Future};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Result;

/// What a running service is given: a way to say it is ready, and the wish to stop.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
}

impl Lifecycle {
    /// A lifecycle that ends when `shutdown` is cancelled, and where its readiness can be seen. Made by `App`; tests
    /// make their own.
    pub fn new(shutdown: CancellationToken) -> (Self, watch::Receiver<bool>) {
        let (ready, seen) = watch::channel(false);
        (Self { ready, shutdown }, seen)
    }

    /// Says that the service does its work from now on. Returning before saying so is a failed start.
    pub fn ready(&self) {
        self.ready.send_replace(true);
    }

    /// Waits until the service is to stop. Cancel-safe.
    pub async fn shutdown(&self) {
        self.shutdown.cancelled().await;
    }

    /// Whether the service is to stop.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// The token behind [`Lifecycle::shutdown`], for tasks of the service's own.
    pub fn token(&self) -> CancellationToken {
        self.shutdown.clone()
    }
}

/// A part of a process that runs from start to stop: a server, a subscriber, a worker.
#[async_trait]
pub trait Service: Send + 'static {
    /// A short unique name, `[a-z][a-z0-9_-]*`.
    fn name(&self) -> &str;

    /// Runs until `lifecycle` asks to stop, then finishes what was accepted and returns.
    ///
    /// # Errors
    /// Why it could not start or go on. Returning `Ok` before [`Lifecycle::ready`] counts as a failed start, returning
    /// `Ok` after it without being asked as an unexpected end.
    async fn run(self: Box<Self>, lifecycle: Lifecycle) -> Result<()>;
}

/// Makes a service of an async function. It must say [`Lifecycle::ready`] itself.
pub fn service_fn<F, Fut>(name: impl Into<String>, run: F) -> impl Service
where
    F: FnOnce(Lifecycle) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    ServiceFn {
        name: name.into(),
        run,
    }
}

struct ServiceFn<F> {
    name: String,
    run: F,
}

impl<F> fmt::Debug for ServiceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceFn").field(&self.name).finish()
    }
}

#[async_trait]
impl<F, Fut> Service for ServiceFn<F>
where
    F: FnOnce(Lifecycle) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        (self.run)(lifecycle).await
    }
}

const _: fn(&dyn Service) = |_| ();
