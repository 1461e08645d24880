//! From configuration to adapters: one match for each port. A backend that is not compiled in answers with the feature
//! that brings it.

use std::sync::Arc;

use cqi_core::{
    Error, Result,
    cache::{Cache, MemoryCache, MemoryCacheOptions},
    config::{CacheConfig, Config, DatabaseConfig, EventBusConfig, RegistryConfig},
    database::Database,
    event::{EventBus, MemoryBus, MemoryBusOptions},
    registry::{MemoryRegistry, Registry},
};

/// A backend's name, and whether this program has it.
type Backend = (&'static str, bool);

const EVENT_BUSES: &[Backend] = &[
    ("memory", true),
    ("nats", cfg!(feature = "nats")),
    ("kafka", cfg!(feature = "kafka")),
];
const CACHES: &[Backend] = &[("memory", true), ("redis", cfg!(feature = "redis"))];
const DATABASES: &[Backend] = &[
    ("sqlite", cfg!(feature = "sqlite")),
    ("postgres", cfg!(feature = "postgres")),
];
const REGISTRIES: &[Backend] = &[("memory", true), ("redis", cfg!(feature = "redis"))];

/// Checks that every backend is compiled in and takes its section, without connecting to any.
pub(crate) fn check(config: &Config) -> Result<()> {
    compiled("event_bus", config.event_bus.backend(), EVENT_BUSES)?;
    compiled("cache", config.cache.backend(), CACHES)?;
    compiled("database", config.database.backend(), DATABASES)?;
    compiled("registry", config.registry.backend(), REGISTRIES)?;

    let section = |error: Error, port| error.with_operation("connect").with_context("section", port);
    let event_bus = match config.event_bus.backend() {
        #[cfg(feature = "nats")]
        "nats" => cqi_nats::NatsOptions::from(&config.event_bus).validate(),
        #[cfg(feature = "kafka")]
        "kafka" => cqi_kafka::KafkaOptions::try_from(&config.event_bus).map(drop),
        _ => Ok(()),
    };
    event_bus.map_err(|error| section(error, "event_bus"))?;
    let cache = match config.cache.backend() {
        #[cfg(feature = "redis")]
        "redis" => cqi_redis::RedisOptions::try_from(&config.cache).map(drop),
        _ => Ok(()),
    };
    cache.map_err(|error| section(error, "cache"))?;
    let database = match config.database.backend() {
        #[cfg(feature = "sqlite")]
        "sqlite" => sqlite_options(&config.database).map(drop),
        #[cfg(feature = "postgres")]
        "postgres" => cqi_postgres::PostgresOptions::try_from(&config.database).map(drop),
        _ => Ok(()),
    };
    database.map_err(|error| section(error, "database"))?;
    let registry = match config.registry.backend() {
        #[cfg(feature = "redis")]
        "redis" => cqi_redis::RedisRegistryOptions::try_from(&config.registry).map(drop),
        _ => Ok(()),
    };
    registry.map_err(|error| section(error, "registry"))
}

/// Whether a backend is there; if not, the sentence an operator needs: what is there, and what to do for what is not.
fn compiled(port: &str, backend: &str, all: &[Backend]) -> Result<()> {
    let remedy = match all.iter().find(|(name, _)| *name == backend) {
        Some((_, true)) => return Ok(()),
        Some((_, false)) => format!("is not compiled in: build with the feature `{backend}`"),
        None => "is unknown".to_owned(),
    };
    let here: Vec<_> = all
        .iter()
        .filter(|(_, here)| *here)
        .map(|(name, _)| *name)
        .collect();
    Err(Error::invalid_input(format!(
        "{port} backend `{backend}` {remedy}; this program has: {}",
        here.join(", ")
    ))
    .with_operation("connect"))
}

/// What a match without an arm for a backend says. [`check`] has said it before.
fn missing<T>(port: &str, backend: &str, all: &[Backend]) -> Result<T> {
    compiled(port, backend, all)?;
    Err(Error::permanent(format!(
        "{port} backend `{backend}` is not wired"
    )))
}

/// A connected bus, and what must be waited for before it goes when its events live in this process only.
pub(crate) struct Bus {
    pub(crate) port: Arc<dyn EventBus>,
    pub(crate) volatile: Option<MemoryBus>,
}

#[cfg(any(feature = "nats", feature = "kafka"))]
impl Bus {
    /// A bus whose events outlive this process.
    fn lasting(bus: impl EventBus) -> Self {
        Self {
            port: Arc::new(bus),
            volatile: None,
        }
    }
}

pub(crate) async fn event_bus(config: &EventBusConfig) -> Result<Bus> {
    match config.backend() {
        "memory" => {
            // It says itself that it is full, before the policy's deadline leaves everybody guessing.
            let publish_wait = config.publish_timeout.mul_f64(0.9);
            let bus = MemoryBus::new(MemoryBusOptions {
                publish_wait,
                ..MemoryBusOptions::default()
            });
            Ok(Bus {
                port: Arc::new(bus.clone()),
                volatile: Some(bus),
            })
        }
        #[cfg(feature = "nats")]
        "nats" => {
            let bus = cqi_nats::NatsBus::connect(cqi_nats::NatsOptions::from(config)).await?;
            Ok(Bus::lasting(bus))
        }
        #[cfg(feature = "kafka")]
        "kafka" => {
            let bus = cqi_kafka::KafkaBus::connect(cqi_kafka::KafkaOptions::try_from(config)?).await?;
            Ok(Bus::lasting(bus))
        }
        other => missing("event_bus", other, EVENT_BUSES),
    }
}

pub(crate) async fn cache(config: &CacheConfig) -> Result<Arc<dyn Cache>> {
    match config.backend() {
        "memory" => {
            let max_entries = usize::try_from(config.max_entries).unwrap_or(usize::MAX);
            Ok(Arc::new(MemoryCache::new(MemoryCacheOptions {
                max_entries,
                ..MemoryCacheOptions::default()
            })))
        }
        #[cfg(feature = "redis")]
        "redis" => {
            let options = cqi_redis::RedisOptions::try_from(config)?;
            Ok(Arc::new(cqi_redis::RedisCache::connect(options).await?))
        }
        other => missing("cache", other, CACHES),
    }
}

pub(crate) async fn database(config: &DatabaseConfig) -> Result<Arc<dyn Database>> {
    match config.backend() {
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let options = sqlite_options(config)?;
            Ok(Arc::new(cqi_core::database::SqliteDatabase::open(options).await?))
        }
        #[cfg(feature = "postgres")]
        "postgres" => {
            let options = cqi_postgres::PostgresOptions::try_from(config)?;
            Ok(Arc::new(cqi_postgres::PostgresDatabase::connect(options).await?))
        }
        other => missing("database", other, DATABASES),
    }
}

#[cfg(feature = "sqlite")]
fn sqlite_options(config: &DatabaseConfig) -> Result<cqi_core::database::SqliteOptions> {
    use cqi_core::database::SqliteOptions;

    let url = if config.url.is_empty() {
        "sqlite::memory:"
    } else {
        config.url.expose()
    };
    let defaults = SqliteOptions::from_url(url)?;
    let options = SqliteOptions {
        // Each connection is a thread, and one writes at a time: more than a few gain nothing.
        max_connections: config.max_connections.min(defaults.max_connections),
        acquire_timeout: config.connection_timeout,
        statement_timeout: config.statement_timeout,
        slow_threshold: config.slow_query_threshold,
        ..defaults
    };
    options.validate()?;
    Ok(options)
}

pub(crate) async fn registry(config: &RegistryConfig) -> Result<Arc<dyn Registry>> {
    match config.backend() {
        "memory" => Ok(Arc::new(MemoryRegistry::new(config.ttl))),
        #[cfg(feature = "redis")]
        "redis" => {
            let options = cqi_redis::RedisRegistryOptions::try_from(config)?;
            Ok(Arc::new(cqi_redis::RedisRegistry::connect(options).await?))
        }
        other => missing("registry", other, REGISTRIES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(backend: &str) -> String {
        let backends = [("memory", true), ("redis", false)];
        compiled("cache", backend, &backends).unwrap_err().to_string()
    }

    #[test]
    fn bus_6_a_backend_that_is_not_there_says_what_to_do() {
        let error = refusal("redis");
        assert!(
            error.contains("feature `redis`") && error.contains("has: memory"),
            "{error}"
        );
        assert!(refusal("memcached").contains("`memcached` is unknown"));
    }

    #[test]
    fn what_a_backend_does_not_take_is_found_without_connecting() {
        let url = |port: &str, url: &str| {
            let mut config = Config::default();
            match port {
                "event_bus" => config.event_bus.url = url.into(),
                "cache" => config.cache.url = url.into(),
                "database" => config.database.url = url.into(),
                _ => config.registry.url = url.into(),
            }
            check(&config)
        };
        assert!(url("cache", "memory://").is_ok());
        for (port, bad, here) in [
            ("event_bus", "kafka://", cfg!(feature = "kafka")),
            ("event_bus", "nats://u:canary@h:99999", cfg!(feature = "nats")),
            ("cache", "redis://u:canary@h/abc", cfg!(feature = "redis")),
            ("database", "sqlite://", cfg!(feature = "sqlite")),
            (
                "database",
                "postgres://u:canary@h:99999/x",
                cfg!(feature = "postgres"),
            ),
            ("registry", "redis://u:canary@h:0", cfg!(feature = "redis")),
        ] {
            let error = url(port, bad).unwrap_err();
            assert!(error.is_invalid_input());
            let text = error.chain().to_string();
            assert!(!here || text.contains(&format!("section={port}")), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[tokio::test]
    async fn the_defaults_are_embedded() {
        assert!(
            event_bus(&EventBusConfig::default())
                .await
                .unwrap()
                .volatile
                .is_some()
        );
        assert!(cache(&CacheConfig::default()).await.is_ok());
        assert!(database(&DatabaseConfig::default()).await.is_ok());
        assert!(registry(&RegistryConfig::default()).await.is_ok());
    }
}
