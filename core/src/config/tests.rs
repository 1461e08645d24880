//! The promises of the module as a whole; its parts have their own tests.

mod secrets;
mod sources;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::*;
use crate::{Error, Result};

/// A file of this text in a folder that lives as long as the first value.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn load_with(name: &str, text: &str, vars: &[(&str, &str)]) -> Result<Loaded<Config>> {
    let (_folder, path) = file(name, text);
    Loader::new()
        .file(path)
        .env_prefix("CQI")
        .vars(vars.iter().copied())
        .load()
}

fn rules(error: &Error) -> Vec<String> {
    violations(error).iter().map(ToString::to_string).collect()
}

#[test]
fn cfg_14_15_16_environment_over_file_over_default() {
    let text = "service_name: cqpm\ndatabase: { host: file, port: 1 }\n";
    let loaded = load_with(
        "c.yaml",
        text,
        &[("CQI_DATABASE_HOST", "env"), ("CQI_SERVER_PORT", "0")],
    )
    .unwrap();
    let database = &loaded.value.database;
    assert_eq!(
        (database.host.as_str(), database.port, database.max_connections),
        ("env", 1, 25)
    );
    assert_eq!(loaded.value.server.port, 0);
    let origins =
        ["database.host", "database.port", "database.max_connections"].map(|key| loaded.origin(key));
    assert_eq!(origins, ["CQI_DATABASE_HOST", "c.yaml", "default"]);
}

#[test]
fn ml_cfg_3_one_key_in_every_source() {
    let (_folder, path) = file("c.toml", "service_name = 'file'");
    let all = |sources: usize| {
        let mut loader = Loader::new().vars(Vec::<(String, String)>::new());
        if sources > 0 {
            loader = loader.flag("service_name", "flag");
        }
        if sources > 1 {
            loader = loader.file(&path);
        }
        if sources > 2 {
            loader = loader.env_prefix("CQI").vars([("CQI_SERVICE_NAME", "env")]);
        }
        loader
    };
    for (sources, expected) in [(3, "env"), (2, "file"), (1, "flag")] {
        assert_eq!(
            all(sources).load::<Config>().unwrap().value.service_name,
            expected
        );
    }
    assert_eq!(
        all(3)
            .flags_priority(400)
            .load::<Config>()
            .unwrap()
            .value
            .service_name,
        "flag"
    );
    assert!(all(0).load::<Config>().is_err());
}

#[test]
fn op_7_known_keys_decide_the_split() {
    let vars = [
        ("CQI_SERVICE_NAME", "x"),
        ("CQI_DATABASE_MAX_CONNECTIONS", "7"),
        ("CQI_EVENT_BUS_URL", "nats://b"),
    ];
    let config = load_with("c.yaml", "", &vars).unwrap().value;
    assert_eq!(
        (config.database.max_connections, config.event_bus.backend()),
        (7, "nats")
    );
}

#[test]
fn ml_cfg_7_two_keys_with_one_variable_are_refused() {
    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Clash {
        max_size: u8,
        max: Max,
    }
    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Max {
        size: u8,
    }
    impl Validate for Clash {
        fn validate(&self, _: &mut Violations) {}
    }
    let no_vars = Vec::<(String, String)>::new();
    let error = Loader::new()
        .env_prefix("CQI")
        .vars(no_vars)
        .load::<Clash>()
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        rules(&error),
        ["max_size (CQI_MAX_SIZE): has the same variable as `max.size`"]
    );
}

#[test]
fn ml_cfg_12_unknown_variables_warn() {
    let vars = [
        ("CQI_SERVICE_NAME", "x"),
        ("CQI_DATABASE_HOTS", "y"),
        ("CQI_ZZZ", "z"),
        ("OTHER_X", "1"),
    ];
    let loaded = load_with("c.yaml", "", &vars).unwrap();
    let near = "unknown variable CQI_DATABASE_HOTS, did you mean CQI_DATABASE_HOST?";
    assert_eq!(loaded.warnings, [near, "unknown variable CQI_ZZZ"]);
}

#[test]
fn cfg_17_a_variable_of_a_placeholder_is_not_unknown() {
    let vars = [("CQI_KAFKA_BROKER", "kafka:9092"), ("CQI_KAFKA_BROKERS", "other")];
    let text = "service_name: x\nevent_bus: { brokers: '${CQI_KAFKA_BROKER:localhost:9092}' }\n";
    let loaded = load_with("c.yaml", text, &vars).unwrap();
    assert_eq!(loaded.value.event_bus.brokers, ["kafka:9092"]);
    let warnings = loaded.warnings.join("\n");
    assert!(
        loaded.warnings.len() == 1 && warnings.contains("CQI_KAFKA_BROKERS"),
        "{warnings}"
    );
}

#[test]
fn the_rules_of_a_service_are_known_with_its_configuration() {
    let vars = [
        ("CQI_SERVICE_NAME", "my_shop"),
        ("CQI_SERVICE_VERSION", "1.4"),
        ("CQI_ENVIRONMENT", "Production"),
    ];
    let error = load_with("c.yaml", "", &vars).unwrap_err();
    let sources: Vec<_> = violations(&error)
        .iter()
        .map(|violation| violation.source.as_str())
        .collect();
    assert_eq!(
        sources,
        ["CQI_SERVICE_NAME", "CQI_SERVICE_VERSION", "CQI_ENVIRONMENT"]
    );
}

#[test]
fn c_01_ml_cfg_12_unknown_keys_are_refused_with_the_nearest() {
    let text = "service_name: x\ndatabse: { host: a }\ndatabase: { max_conections: 3, zzz: 1 }\nserver: 5\nlogging:\n";
    let error = load_with("c.yaml", text, &[]).unwrap_err();
    assert_eq!(
        rules(&error),
        [
            "database.max_conections (c.yaml): unknown key, did you mean `database.max_connections`?",
            "database.zzz (c.yaml): unknown key",
            "databse (c.yaml): unknown key, did you mean `database`?",
            "server (c.yaml): expected a table of keys",
        ]
    );
}

#[test]
fn cfg_19_20_ml_cfg_6_11_all_errors_at_once_with_source_rule_and_value() {
    let text = "database: { port: 0, max_connections: many, connection_timeout: 5 }\ntracing: { sample_rate: 1.5 }\n";
    let vars = [
        ("CQI_CACHE_TIMEOUT", "0s"),
        ("CQI_CACHE_KEY_PREFIX", "a:b"),
        ("CQI_SERVER_PORT", "70000"),
        ("LOG_LEVEL", "loud"),
    ];
    let error = load_with("c.yaml", text, &vars).unwrap_err();
    assert!(error.is_invalid_input());
    assert_eq!(
        rules(&error),
        [
            "database.connection_timeout (c.yaml): \
             expected a duration with a unit, such as `5s`, `500ms` or `1m30s`, got 5",
            "database.max_connections (c.yaml): expected an integer from 0 to 4294967295, got many",
            "server.port (CQI_SERVER_PORT): expected an integer from 0 to 65535, got 70000",
            "service_name (default): is required",
            "database.port (c.yaml): must be a port from 1 to 65535, got 0",
            "cache.timeout (CQI_CACHE_TIMEOUT): must be longer than zero, got 0s",
            "cache.key_prefix (CQI_CACHE_KEY_PREFIX): may have up to 64 letters, digits, `.`, `_` and `-`, got a:b",
            "logging.level (LOG_LEVEL): must be off, error, warn, info, debug or trace, \
             then target=level for parts of the program, got loud",
            "tracing.sample_rate (c.yaml): must be from 0 to 1, got 1.5",
        ]
    );
    let text = error.to_string();
    assert!(
        text.starts_with("configuration: 9 errors: database.connection_timeout"),
        "{text}"
    );
    assert!(!text.contains('\n'));
}

#[test]
fn c_10_sections_are_checked_across_their_fields() {
    let text = "service_name: X\nserver: { shutdown_delay: 30s, port: 9090 }\nretry: { initial: 1m }\n\
                database: { min_connections: 26, url: 'postgres://x', backend: sqlite }\nregistry: { ttl: 10s }\n\
                auth: { jwt_public_key: k.pem, api_keys: [short] }\n\
                logging: { buffer: 1, redact_fields: [fine, '-'], redact_patterns: false, redact_emails: true }\n\
                tracing: { headers: [no-value] }\n";
    let error = load_with("c.yaml", text, &[]).unwrap_err();
    let keys: Vec<_> = violations(&error)
        .iter()
        .map(|violation| violation.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "service_name",
            "server.shutdown_delay",
            "database.url",
            "database.min_connections",
            "registry.ttl",
            "logging.buffer",
            "logging.redact_fields[1]",
            "logging.redact_emails",
            "tracing.headers[0]",
            "auth.jwt_issuer",
            "auth.jwt_audience",
            "auth.api_keys",
            "retry.max",
            "metrics.port"
        ]
    );
}

#[test]
fn cfg_17_op_15_placeholders_fill_texts_numbers_and_lists() {
    let text = "service_name: ${NAME:cqpm}\ndatabase: { port: '${PORT:77}', password: '${PASSWORD}' }\n\
                event_bus: { brokers: ['${CQI_KAFKA_BROKER:localhost:9092}'] }\nmetrics: { enabled: '${METRICS}' }\n";
    let vars = [("METRICS", "false"), ("PASSWORD", "${PORT}")];
    let loaded = load_with("c.yaml", text, &vars).unwrap();
    let config = &loaded.value;
    assert_eq!((config.service_name.as_str(), config.database.port), ("cqpm", 77));
    assert_eq!(config.database.password.expose(), "${PORT}", "one pass");
    assert_eq!(config.event_bus.brokers, ["localhost:9092"]);
    assert!(!config.metrics.enabled);
    assert_eq!(loaded.origin("metrics.enabled"), "c.yaml, METRICS");

    let error = load_with("c.yaml", "service_name: ${NONE}\ncache: { host: '${' }", &[]).unwrap_err();
    let closing = "cache.host (c.yaml): the placeholder has no closing `}`";
    assert_eq!(
        rules(&error),
        [closing, "service_name (c.yaml, NONE): is required"]
    );
}

#[test]
fn op_17_log_level_stands_between_prefix_and_file() {
    let text = "service_name: x\nlogging: { level: warn }";
    let level = |vars: &[(&str, &str)]| load_with("c.yaml", text, vars).unwrap().value.logging.level;
    assert_eq!(
        level(&[("CQI_LOGGING_LEVEL", "debug"), ("LOG_LEVEL", "error")]),
        "debug"
    );
    assert_eq!(level(&[("LOG_LEVEL", "error")]), "error");
    assert_eq!(level(&[]), "warn");
}

#[test]
fn op_14_ml_cfg_4_lists_are_replaced_and_tables_merged() {
    let (_a, first) = file(
        "a.yaml",
        "service_name: x\nevent_bus: { brokers: [a, b], publish_timeout: 1s }",
    );
    let (_b, second) = file("b.json", r#"{"event_bus": {"brokers": ["c"]}}"#);
    let loaded = Loader::new()
        .file(first)
        .file(second)
        .optional_file("/nowhere.toml")
        .load::<Config>()
        .unwrap();
    assert_eq!(loaded.value.event_bus.brokers, ["c"]);
    assert_eq!(loaded.value.event_bus.publish_timeout, Duration::from_secs(1));
    let vars = [
        ("CQI_SERVICE_NAME", "x"),
        ("CQI_EVENT_BUS_BROKERS", "d:1, e:2"),
        ("CQI_EVENT_BUS_SERVERS", ""),
    ];
    let bus = load_with("c.yaml", "", &vars).unwrap().value.event_bus;
    assert_eq!(
        (bus.brokers, bus.servers.len()),
        (vec!["d:1".to_owned(), "e:2".to_owned()], 0)
    );
}

#[test]
#[should_panic(expected = "service_name (default): is required")]
fn cfg_13_must_load_panics_with_everything_that_is_wrong() {
    let (_folder, path) = file("c.yaml", "");
    must_load::<Config>(path, "CQI_TEST_OF_MUST_LOAD");
}

#[test]
fn op_16_the_defaults_are_valid_once_the_service_has_a_name() {
    let config = Loader::new()
        .flag("service_name", "cqpm")
        .load::<Config>()
        .unwrap()
        .value;
    assert_eq!(
        config,
        Config {
            service_name: "cqpm".into(),
            ..Config::default()
        }
    );
    let backends = [
        config.database.backend(),
        config.cache.backend(),
        config.event_bus.backend(),
    ];
    assert_eq!(backends, ["sqlite", "memory", "memory"]);
    assert_eq!(config.consumer_group(), "cqpm");
    let retry = crate::policy::Retry::from(&config.retry);
    assert!(retry.validate().is_ok());
}

#[test]
fn embedded_text_lies_below_files_and_environment_and_names_itself() {
    let loader = || {
        Loader::new()
            .embedded("service_name: shop\nserver:\n  port: ${PORT:7000}\n")
            .env_prefix("CQI")
    };
    let loaded = loader()
        .vars([("CQI_SERVICE_NAME", "other")])
        .load::<Config>()
        .unwrap();
    assert_eq!(
        (loaded.value.service_name.as_str(), loaded.value.server.port),
        ("other", 7000)
    );
    assert_eq!(loaded.origin("server.port"), "built-in configuration, PORT");
    let error = Loader::new()
        .embedded("sevice_name: shop")
        .vars::<&str, &str>([])
        .load::<Config>()
        .unwrap_err();
    assert!(
        error.to_string().contains("built-in configuration") && error.to_string().contains("service_name"),
        "{error}"
    );
}
