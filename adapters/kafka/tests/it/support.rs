//! The server the tests talk to.

use std::time::Duration;

use cqi_core::config::EventBusConfig;
use cqi_kafka::KafkaOptions;
use cqi_testkit::fixture::Server;

/// Options for a server, with a session as short as tests can wait for.
pub(crate) fn options(server: &Server) -> KafkaOptions {
    options_of(server.url())
}

pub(crate) fn options_of(url: &str) -> KafkaOptions {
    let config = EventBusConfig {
        url: url.into(),
        ..EventBusConfig::default()
    };
    KafkaOptions {
        session_timeout: Duration::from_secs(6),
        // The machine has other work too.
        connection_timeout: Duration::from_secs(20),
        publish_timeout: Duration::from_secs(15),
        join_timeout: Duration::from_secs(40),
        ..KafkaOptions::try_from(&config).expect("a URL of Kafka")
    }
}
