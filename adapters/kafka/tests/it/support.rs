//! The server the tests talk to.

use std::time::Duration;

use cqi_kafka::KafkaOptions;

/// Options for the shared server.
pub(crate) fn options() -> KafkaOptions {
    let url = std::env::var("CQI_TEST_KAFKA_URL").unwrap_or_else(|_| "kafka://127.0.0.1:39392".into());
    KafkaOptions {
        brokers: vec![url.trim_start_matches("kafka://").to_owned()],
        session_timeout: Duration::from_secs(6),
        ..KafkaOptions::default()
    }
}
