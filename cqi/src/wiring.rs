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

/// Checks that every backend is compiled in, without connecting to any.
pub(crate) fn check(config: &Config) -> Result<()> {
    event_bus(&config.event_bus)?;
    cache(&config.cache)?;
    registry(&config.registry)?;
    let database = config.database.backend();
    if DATABASES.contains(&database) {
        Ok(())
    } else {
        Err(no_database(database))
    }
}

/// A connected bus, and what must be waited for before it goes when its events live in this process only.
pub(crate) struct Bus {
    pub(crate) port: Arc<dyn EventBus>,
    pub(crate) volatile: Option<MemoryBus>,
}

pub(crate) fn event_bus(config: &EventBusConfig) -> Result<Bus> {
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
        other => Err(unknown("event_bus", other, &["memory"], &["nats", "kafka"])),
    }
}

pub(crate) fn cache(config: &CacheConfig) -> Result<Arc<dyn Cache>> {
    match config.backend() {
        "memory" => {
            let max_entries = usize::try_from(config.max_entries).unwrap_or(usize::MAX);
            Ok(Arc::new(MemoryCache::new(MemoryCacheOptions {
                max_entries,
                ..MemoryCacheOptions::default()
            })))
        }
        other => Err(unknown("cache", other, &["memory"], &["redis"])),
    }
}

pub(crate) async fn database(config: &DatabaseConfig) -> Result<Arc<dyn Database>> {
    match config.backend() {
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite(config).await?)),
        other => Err(no_database(other)),
    }
}

/// The databases this program has.
const DATABASES: &[&str] = if cfg!(feature = "sqlite") {
    &["sqlite"]
} else {
    &[]
};

fn no_database(backend: &str) -> Error {
    unknown("database", backend, DATABASES, &["sqlite", "postgres"])
}

#[cfg(feature = "sqlite")]
async fn sqlite(config: &DatabaseConfig) -> Result<cqi_core::database::SqliteDatabase> {
    use cqi_core::database::{SqliteDatabase, SqliteOptions};

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
    SqliteDatabase::open(options).await
}

pub(crate) fn registry(config: &RegistryConfig) -> Result<Arc<dyn Registry>> {
    match config.backend() {
        "memory" => Ok(Arc::new(MemoryRegistry::new(config.ttl))),
        other => Err(unknown("registry", other, &["memory"], &["redis"])),
    }
}

/// The sentence an operator needs: what is there, and what to do for what is not.
fn unknown(port: &str, backend: &str, compiled: &[&str], known: &[&str]) -> Error {
    let remedy = if known.contains(&backend) {
        format!("is not compiled in: build with the feature `{backend}`")
    } else {
        "is unknown".to_owned()
    };
    Error::invalid_input(format!(
        "{port} backend `{backend}` {remedy}; this program has: {}",
        compiled.join(", ")
    ))
    .with_operation("connect")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        let config = CacheConfig {
            url: url.into(),
            ..CacheConfig::default()
        };
        cache(&config).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn bus_6_a_backend_that_is_not_there_says_what_to_do() {
        let error = refusal("redis://user:canary@localhost");
        assert!(
            error.contains("feature `redis`") && error.contains("memory") && !error.contains("canary"),
            "{error}"
        );
        assert!(refusal("memcached://localhost").contains("`memcached` is unknown"));
    }

    #[tokio::test]
    async fn the_defaults_are_embedded() {
        assert!(event_bus(&EventBusConfig::default()).unwrap().volatile.is_some());
        assert!(cache(&CacheConfig::default()).is_ok());
        assert!(database(&DatabaseConfig::default()).await.is_ok());
        assert!(registry(&RegistryConfig::default()).is_ok());
    }
}
