//! The sections every service has.

mod auth;
mod backend;
mod cache;
mod database;
mod event_bus;
mod grpc;
mod logging;
mod metrics;
mod registry;
mod retry;
mod runner;
mod server;
mod startup;
mod tracing;

use serde::{Deserialize, Serialize};

pub use self::{
    auth::AuthConfig,
    cache::CacheConfig,
    database::DatabaseConfig,
    event_bus::{EventBusConfig, StreamConfig},
    grpc::GrpcConfig,
    logging::{LogConfig, LogFilter, LogFormat},
    metrics::MetricsConfig,
    registry::RegistryConfig,
    retry::RetryConfig,
    runner::{HealthConfig, RestartPolicy, RunnerConfig},
    server::ServerConfig,
    startup::StartupConfig,
    tracing::TracingConfig,
};
use super::{Validate, Violations};
use crate::service::metadata;

/// The whole configuration of a service. A program embeds it with `#[serde(flatten)]` beside its own sections.
///
/// ```yaml
/// service_name: positions
/// environment: production
/// server: { port: 8080, shutdown_delay: 5s }
/// database: { url: "postgres://db/positions", user: positions, password: "${DB_PASSWORD}" }
/// cache: { url: "redis://cache:6379" }
/// event_bus: { url: "nats://broker:4222" }
/// logging: { level: "info,cqi=debug" }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The service's name, 1 to 63 of `[a-z0-9-]` beginning with a letter: in logs, metric names, traces and the registry.
    /// Required.
    pub service_name: String,
    /// The service's semantic version, for example `1.4.2`. Default empty, which counts as `0.0.0`.
    pub service_version: String,
    /// Where it runs, 1 to 32 of `[a-z0-9-]`, for example `production`. Default empty, which counts as `development`.
    pub environment: String,
    /// What happens when a store or broker cannot be reached at the start.
    pub startup: StartupConfig,
    /// The HTTP server; its limits hold for gRPC too.
    pub server: ServerConfig,
    /// The gRPC server, in programs that have one.
    pub grpc: GrpcConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// The cache.
    pub cache: CacheConfig,
    /// The event bus.
    pub event_bus: EventBusConfig,
    /// Service registration and discovery.
    pub registry: RegistryConfig,
    /// Log lines.
    pub logging: LogConfig,
    /// Metrics.
    pub metrics: MetricsConfig,
    /// Traces.
    pub tracing: TracingConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// How services of the process are restarted.
    pub runner: RunnerConfig,
    /// How calls of the ports are repeated.
    pub retry: RetryConfig,
    /// Health checks.
    pub health: HealthConfig,
}

impl Config {
    /// The consumer group of this service: the configured one, else the service's name.
    pub fn consumer_group(&self) -> &str {
        match self.event_bus.consumer_group.as_str() {
            "" => &self.service_name,
            group => group,
        }
    }
}

impl Validate for Config {
    fn validate(&self, violations: &mut Violations) {
        violations.required("service_name", &self.service_name);
        let mut rule = |key, text: &str, holds: fn(&str) -> bool, rule| {
            violations.rule(key, text.is_empty() || holds(text), rule);
        };
        rule(
            "service_name",
            &self.service_name,
            metadata::is_name,
            "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter",
        );
        rule(
            "service_version",
            &self.service_version,
            metadata::is_semver,
            "must be a semantic version such as 1.2.3",
        );
        rule(
            "environment",
            &self.environment,
            metadata::is_environment,
            "must be 1 to 32 of a-z, 0-9 and -",
        );
        violations.nested("startup", &self.startup);
        violations.nested("server", &self.server);
        violations.nested("grpc", &self.grpc);
        violations.nested("database", &self.database);
        violations.nested("cache", &self.cache);
        violations.nested("event_bus", &self.event_bus);
        violations.nested("registry", &self.registry);
        violations.nested("logging", &self.logging);
        violations.nested("metrics", &self.metrics);
        violations.nested("tracing", &self.tracing);
        violations.nested("auth", &self.auth);
        violations.nested("runner", &self.runner);
        violations.nested("retry", &self.retry);
        violations.nested("health", &self.health);
        let ports = (self.server.port, self.metrics.port);
        let clash = self.metrics.enabled && ports.0 == ports.1 && ports.0 != 0;
        violations.rule("metrics.port", !clash, "must differ from server.port");
    }
}
