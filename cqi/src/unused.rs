//! What is configured and not used, for a warning each.

use cqi_core::config::Config;

/// What an operator may be mistaken about though the configuration is valid.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let without_effect = without_effect(config).into_iter();
    let without_effect =
        without_effect.map(|key| format!("{key} is configured, but has no effect in this version"));
    let unchosen = unchosen(config).into_iter().map(|section| {
        format!(
            "{section} names a server or a login, but neither {section}.url nor {section}.backend is set: it is in memory, \
             and ends with the process"
        )
    });
    without_effect.chain(unchosen).collect()
}

fn without_effect(config: &Config) -> Vec<&'static str> {
    let default = Config::default();
    let mut keys = Vec::new();
    if config.runner != default.runner {
        keys.push("runner");
    }
    if config.event_bus.topics != default.event_bus.topics {
        keys.push("event_bus.topics");
    }
    if config.health.cache != default.health.cache {
        keys.push("health.cache");
    }
    keys
}

/// Sections that say where a server is and not that it is wanted. A program would keep in memory what it was to store.
fn unchosen(config: &Config) -> Vec<&'static str> {
    let default = Config::default();
    let (database, cache) = (&config.database, &config.cache);
    let (event_bus, registry) = (&config.event_bus, &config.registry);
    let sections = [
        (
            "database",
            database.backend.is_empty() && database.url.is_empty(),
            database.host != default.database.host
                || database.database != default.database.database
                || database.user != default.database.user
                || database.password != default.database.password,
        ),
        (
            "cache",
            cache.backend.is_empty() && cache.url.is_empty(),
            cache.host != default.cache.host
                || cache.user != default.cache.user
                || cache.password != default.cache.password,
        ),
        (
            "event_bus",
            event_bus.backend.is_empty() && event_bus.url.is_empty(),
            event_bus.servers != default.event_bus.servers
                || event_bus.brokers != default.event_bus.brokers
                || event_bus.user != default.event_bus.user
                || event_bus.password != default.event_bus.password,
        ),
        (
            "registry",
            registry.backend.is_empty() && registry.url.is_empty(),
            registry.password != default.registry.password,
        ),
    ];
    let told = sections.into_iter().filter(|(_, open, server)| *open && *server);
    told.map(|(section, ..)| section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_named_and_not_chosen_is_told() {
        let mut config = Config::default();
        assert!(warnings(&config).is_empty());
        config.database.max_connections = 5;
        config.cache.max_entries = 5;
        config.registry.address = "orders".into();
        assert!(warnings(&config).is_empty(), "these hold in memory, too");
        config.database.password = "canary".into();
        config.cache.host = "redis".into();
        config.event_bus.brokers = vec!["kafka:9092".into()];
        config.registry.password = "canary".into();
        let told = warnings(&config);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("database names a server") && !told[0].contains("canary"));
        config.database.url = "sqlite://positions.db".into();
        config.cache.backend = "memory".into();
        config.event_bus.backend = "kafka".into();
        config.registry.url = "redis://redis".into();
        assert!(warnings(&config).is_empty());
        config.health.cache *= 2;
        assert!(warnings(&config)[0].starts_with("health.cache is configured"));
    }
}
