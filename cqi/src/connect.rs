//! Configuration in, connected ports out.

use std::{fmt, sync::Arc, time::Duration};

use cqi_core::{
    Result,
    auth::Verifier,
    cache::{Cache, CacheChecker, GuardedCache, ReadThrough},
    config::{Config, Validate, Violations},
    database::{Database, DatabaseChecker, GuardedDatabase},
    event::{BusChecker, ConsumeOptions, EventBus, GuardedBus, Router as Events, Subscriber},
    health::{CheckOptions, Checker, Health},
    name::Group,
    observe::Observer,
    policy::{Policy, Retry},
    registry::{GuardedRegistry, Registry, RegistryChecker},
    service::{Service, ServiceMetadata},
};

use crate::{patience::Patience, unused, wiring};

/// A service's ports, connected as its configuration says, and what it will run.
///
/// Every port is under the configured policy and observed; nobody sees the concrete adapters. Handlers are added with
/// [`Cqi::http`], [`Cqi::subscriber`] and [`Cqi::service`]; [`run`](crate::run) or [`Cqi::app`] does the rest.
pub struct Cqi {
    pub(crate) config: Config,
    pub(crate) metadata: ServiceMetadata,
    #[cfg(feature = "telemetry")]
    pub(crate) telemetry: cqi_telemetry::Telemetry,
    pub(crate) health: Health,
    pub(crate) checkers: [Arc<dyn Checker>; 4],
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) volatile: Option<cqi_core::event::MemoryBus>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) services: Vec<Box<dyn Service>>,
    /// What verifies callers' credentials, if any are asked for.
    pub(crate) verifier: Option<Arc<dyn Verifier>>,
    #[cfg(feature = "http")]
    pub(crate) routes: Option<axum::Router>,
    #[cfg(feature = "grpc")]
    pub(crate) grpc: Option<cqi_grpc::GrpcServer>,
}

/// How the time of a shutdown is shared out: half for requests in flight, then an in-memory bus, then running handlers.
/// What is left is for hooks.
pub(crate) const WORK_OFF: f64 = 0.25;
pub(crate) const SUBSCRIBERS: f64 = 0.2;

/// The time of a shutdown that is shared out: what load balancers leave of it.
pub(crate) fn drain_time(config: &Config) -> Duration {
    let server = &config.server;
    server.shutdown_timeout.saturating_sub(server.shutdown_delay)
}

impl Cqi {
    /// Starts logs, metrics and traces, and connects every port.
    ///
    /// # Errors
    /// `InvalidInput` for a configuration that breaks a rule or names a backend that is not compiled in; what an
    /// adapter says when it cannot connect, where the other side cannot be reached after `startup.wait`.
    pub async fn connect(config: Config) -> Result<Self> {
        let metadata = check(&config)?;
        #[cfg(feature = "telemetry")]
        let telemetry = telemetry(&config, &metadata)?;
        #[cfg(feature = "telemetry")]
        let observer = telemetry.observer();
        #[cfg(not(feature = "telemetry"))]
        let observer: Arc<dyn Observer> = Arc::new(cqi_core::observe::Silent);

        let patience = Patience::new(config.startup.wait);
        let policy = |deadline| policy(&config, deadline, &observer);
        let wiring::Bus { port, volatile } = patience
            .connect("event_bus", || wiring::event_bus(&config.event_bus))
            .await?;
        let bus = GuardedBus::new(port, policy(config.event_bus.publish_timeout))
            .with_source(&*config.service_name);
        let cache = patience.connect("cache", || wiring::cache(&config.cache)).await?;
        let cache = GuardedCache::new(cache, policy(config.cache.timeout));
        let database = patience
            .connect("database", || wiring::database(&config.database))
            .await?;
        // The port has its own statement timeout; the policy's deadline covers waiting for a connection too.
        let limit = config.database.statement_timeout + config.database.connection_timeout;
        let database = GuardedDatabase::new(database, policy(limit));
        let registry = patience
            .connect("registry", || wiring::registry(&config.registry))
            .await?;
        let registry = GuardedRegistry::new(registry, policy(config.registry.timeout));

        let (bus, cache): (Arc<dyn EventBus>, Arc<dyn Cache>) = (Arc::new(bus), Arc::new(cache));
        let (database, registry): (Arc<dyn Database>, Arc<dyn Registry>) =
            (Arc::new(database), Arc::new(registry));
        let checkers: [Arc<dyn Checker>; 4] = [
            Arc::new(DatabaseChecker::new(Arc::clone(&database))),
            Arc::new(CacheChecker::new(Arc::clone(&cache))),
            Arc::new(BusChecker::new(Arc::clone(&bus))),
            Arc::new(RegistryChecker::new(Arc::clone(&registry))),
        ];
        let health = Health::new();
        for checker in &checkers {
            let options = CheckOptions {
                timeout: config.health.timeout,
                ..CheckOptions::default()
            };
            health.register(Arc::clone(checker), options)?;
        }
        let verifier = patience
            .connect("auth", || {
                crate::callers::verifier(&config.auth, &health, &observer)
            })
            .await?;
        for warning in unused::warnings(&config) {
            tracing::warn!(warning, "configuration");
        }
        Ok(Self {
            metadata,
            #[cfg(feature = "telemetry")]
            telemetry,
            health,
            checkers,
            bus,
            volatile,
            cache,
            database,
            registry,
            subscribers: Vec::new(),
            services: Vec::new(),
            verifier,
            #[cfg(feature = "http")]
            routes: None,
            #[cfg(feature = "grpc")]
            grpc: None,
            config,
        })
    }

    /// The configuration it was made of.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The event bus.
    pub fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }

    /// The cache.
    pub fn cache(&self) -> Arc<dyn Cache> {
        Arc::clone(&self.cache)
    }

    /// The cache, read through: concurrent misses of one key load once.
    pub fn read_through(&self) -> ReadThrough {
        ReadThrough::new(self.cache())
    }

    /// The database.
    pub fn database(&self) -> Arc<dyn Database> {
        Arc::clone(&self.database)
    }

    /// The service registry.
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.registry)
    }

    /// The health of this service, for checks of its own.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The metrics of this service, for some of its own.
    #[cfg(feature = "telemetry")]
    pub fn metrics(&self) -> &cqi_telemetry::Metrics {
        self.telemetry.metrics()
    }

    /// What verifies credentials as configured, for event handlers and protocols of a service's own; `None` when
    /// everybody may call.
    pub fn verifier(&self) -> Option<Arc<dyn Verifier>> {
        self.verifier.clone()
    }

    /// What measures the ports, for wrappers and layers of a service's own.
    pub fn observer(&self) -> Arc<dyn Observer> {
        #[cfg(feature = "telemetry")]
        return self.telemetry.observer();
        #[cfg(not(feature = "telemetry"))]
        Arc::new(cqi_core::observe::Silent)
    }

    /// Serves these routes over HTTP on the configured port, behind the standard layers. Routes added before are kept.
    #[cfg(feature = "http")]
    pub fn http(mut self, routes: axum::Router) -> Self {
        self.routes = Some(match self.routes.take() {
            Some(before) => before.merge(routes),
            None => routes,
        });
        self
    }

    /// Serves services of tonic over gRPC on the configured port, behind the standard layers, with the health service.
    /// `build` adds them to the server: `cqi.grpc(|server| server.add(PositionsServer::new(positions)))`.
    ///
    /// # Errors
    /// What `build` returns, and `InvalidInput` for limits that break a rule, a port that another server of this process
    /// has, or a second call.
    #[cfg(feature = "grpc")]
    pub fn grpc(
        mut self,
        build: impl FnOnce(cqi_grpc::GrpcServer) -> Result<cqi_grpc::GrpcServer>,
    ) -> Result<Self> {
        if self.grpc.is_some() {
            return Err(cqi_core::Error::invalid_input("the gRPC server was built before"));
        }
        self.grpc = Some(build(crate::servers::grpc::server(&self)?)?);
        Ok(self)
    }

    /// Consumes these topics as a member of the configured consumer group, with the configured retries.
    ///
    /// # Errors
    /// `InvalidInput` when the group breaks its grammar.
    pub fn subscriber(self, events: Events) -> Result<Self> {
        let options = ConsumeOptions::default()
            .with_retry(Retry::from(&self.config.retry))
            .with_drain_timeout(drain_time(&self.config).mul_f64(SUBSCRIBERS));
        self.subscriber_with(events, options)
    }

    /// As [`Cqi::subscriber`], worked on as `options` say.
    ///
    /// # Errors
    /// `InvalidInput` when the group breaks its grammar.
    pub fn subscriber_with(mut self, events: Events, options: ConsumeOptions) -> Result<Self> {
        let group = Group::parse(self.config.consumer_group())?;
        let name = match self.subscribers.len() {
            0 => "subscriber".to_owned(),
            n => format!("subscriber-{}", n + 1),
        };
        let subscriber = Subscriber::new(self.bus(), group, events)
            .with_name(name)
            .with_options(options)
            .with_observer(self.observer());
        self.subscribers.push(subscriber);
        Ok(self)
    }

    /// Runs a service of your own. Services start in the order they were added, after the subscribers and before the HTTP
    /// server.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Box::new(service));
        self
    }
}

impl fmt::Debug for Cqi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cqi")
            .field("service", &self.metadata.name)
            .finish_non_exhaustive()
    }
}

/// Checks what can be checked without connecting to anything.
pub(crate) fn check(config: &Config) -> Result<ServiceMetadata> {
    let mut violations = Violations::default();
    config.validate(&mut violations);
    crate::callers::check(&config.auth, &mut violations);
    violations.into_result()?;
    let mut metadata = ServiceMetadata::new(&config.service_name, version(config));
    if !config.environment.is_empty() {
        metadata = metadata.with_environment(&config.environment);
    }
    metadata.validate()?;
    #[cfg(feature = "http")]
    crate::servers::http::check(config)?;
    wiring::check(config)?;
    Ok(metadata)
}

fn policy(config: &Config, deadline: Duration, observer: &Arc<dyn Observer>) -> Policy {
    Policy::new(deadline, Retry::from(&config.retry)).with_observer(Arc::clone(observer))
}

fn version(config: &Config) -> &str {
    if config.service_version.is_empty() {
        "0.0.0"
    } else {
        &config.service_version
    }
}

#[cfg(feature = "telemetry")]
fn telemetry(config: &Config, metadata: &ServiceMetadata) -> Result<cqi_telemetry::Telemetry> {
    let identity = cqi_telemetry::ServiceIdentity {
        name: metadata.name.clone(),
        version: config.service_version.clone(),
        instance: metadata.instance.clone(),
    };
    let (logging, metrics, tracing) = (&config.logging, &config.metrics, &config.tracing);
    let mut options = cqi_telemetry::TelemetryOptions::default();
    options.export.environment.clone_from(&metadata.environment);
    match cqi_telemetry::Telemetry::init_with(logging, metrics, tracing, identity.clone(), options) {
        // Somebody installed a subscriber of their own, or this is a second service in one process, as in tests: logs and
        // traces are theirs, metrics are this service's own.
        Err(error) if error.code() == Some(cqi_core::Code::AlreadyExists) => {
            cqi_telemetry::Telemetry::build(logging, metrics, tracing, identity, None)
                .map(|(telemetry, _)| telemetry)
        }
        result => result,
    }
}
