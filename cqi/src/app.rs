//! From connected ports and handlers to a runnable app, in the one documented order.

use std::time::Duration;

use async_trait::async_trait;
use cqi_core::{
    Result,
    event::MemoryBus,
    service::{App, DependencyOptions, Lifecycle, Service},
};

use crate::{
    Cqi,
    connect::{WORK_OFF, drain_time},
};

/// How long the last lines of the log may take when a second signal ends the process.
#[cfg(feature = "telemetry")]
const LAST_LINES: Duration = Duration::from_millis(250);

impl Cqi {
    /// The runnable app.
    ///
    /// Services start in this order, and stop in the reverse: the admin server (metrics, health in detail), subscribers,
    /// services of your own, the gRPC server, the HTTP server, the registration. So shutdown first deregisters, then
    /// stops accepting requests and ends your services, then works off what an in-memory bus holds, then stops fetching
    /// events and finishes handlers; then the bus is flushed and closed, then the last spans are sent, and then pools are
    /// closed. Of the shutdown's time after `shutdown_delay` half is for requests in flight, a quarter for the in-memory
    /// bus, a fifth for running handlers, and of the rest most for spans.
    ///
    /// # Errors
    /// `InvalidInput` for limits or names that break a rule.
    pub fn app(self) -> Result<App> {
        let server = &self.config.server;
        let mut app = App::new(self.metadata.clone())?
            .shutdown_timeout(server.shutdown_timeout)
            .drain_delay(server.shutdown_delay)
            .health(&self.health);
        for checker in self.checkers.clone() {
            app = app.dependency(checker, DependencyOptions::default());
        }

        // Hooks run last registered first: the bus, then telemetry, then pools.
        let (database, cache, registry) = (self.database(), self.cache(), self.registry());
        app = app.on_shutdown("close-pools", || async move {
            database
                .close()
                .await
                .and(cache.close().await)
                .and(registry.close().await)
        });
        #[cfg(feature = "telemetry")]
        {
            let (telemetry, limit) = (self.telemetry.clone(), drain_time(&self.config) / 25);
            app = app.on_shutdown("flush-telemetry", move || async move {
                // Nothing of the service's work is lost with them.
                if let Err(error) = telemetry.shutdown(limit).await {
                    tracing::warn!(error = %error.chain(), "telemetry was not sent in full");
                }
                Ok(())
            });
        }
        #[cfg(feature = "telemetry")]
        {
            let log = self.telemetry.log_handle().clone();
            app = app.before_exit(move || drop(log.flush(LAST_LINES)));
        }
        let bus = self.bus();
        app = app.on_shutdown("close-event-bus", || async move { bus.close().await });

        #[cfg(feature = "http")]
        if let Some(admin) = crate::servers::http::admin(&self)? {
            app = app.service(admin);
        }
        #[cfg(feature = "http")]
        let public = crate::servers::http::public(&self)?;
        for subscriber in self.subscribers {
            app = app.service(subscriber);
        }
        if let Some(bus) = self.volatile {
            app = app.service(WorkOff {
                bus,
                limit: drain_time(&self.config).mul_f64(WORK_OFF),
            });
        }
        for service in self.services {
            app = app.service(Boxed(service));
        }
        #[cfg(any(feature = "http", feature = "grpc"))]
        let registration = crate::registration::Registration {
            registry: self.registry,
            name: self.metadata.name,
            version: self.metadata.version,
            config: self.config.registry.clone(),
            #[cfg(feature = "http")]
            http: public.as_ref().map(cqi_http::HttpServer::bound),
            #[cfg(feature = "grpc")]
            grpc: self.grpc.as_ref().map(cqi_grpc::GrpcServer::bound),
        };
        #[cfg(feature = "grpc")]
        if let Some(grpc) = self.grpc {
            app = app.service(grpc);
        }
        #[cfg(feature = "http")]
        if let Some(public) = public {
            app = app.service(public);
        }
        #[cfg(any(feature = "http", feature = "grpc"))]
        if registration.has_servers() {
            app = app.service(registration);
        }
        Ok(app)
    }
}

/// A service that is already boxed.
struct Boxed(Box<dyn Service>);

#[async_trait]
impl Service for Boxed {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn run(self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        self.0.run(lifecycle).await
    }
}

/// Holds the shutdown, between servers and subscribers, until an in-memory bus is worked off: what is left in it when the
/// process ends is lost.
struct WorkOff {
    bus: MemoryBus,
    limit: Duration,
}

#[async_trait]
impl Service for WorkOff {
    fn name(&self) -> &'static str {
        "event-bus-drain"
    }

    async fn run(self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        lifecycle.ready();
        lifecycle.shutdown().await;
        if tokio::time::timeout(self.limit, self.bus.idle()).await.is_err() {
            tracing::error!(
                events = self.bus.unsettled(),
                "events in the in-memory bus were not handled in time and are lost"
            );
        }
        Ok(())
    }
}
