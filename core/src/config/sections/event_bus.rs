use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    super::{ConnectionUrl, Validate, Violations, duration},
    backend,
};
use crate::{
    name::{Group, TOPIC_PREFIX, Topic},
    secret::Secret,
};

/// The event bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventBusConfig {
    /// `memory`, `nats` (alias `jetstream`) or `kafka`. Default empty: what `url` says, else `memory`, which reaches
    /// this process only and forgets everything at its end.
    pub backend: String,
    /// `memory://`, `nats://host:4222`, `kafka://host:9092`. Default empty: `servers` or `brokers`.
    pub url: ConnectionUrl,
    /// The NATS servers. Default `nats://localhost:4222`.
    pub servers: Vec<ConnectionUrl>,
    /// The Kafka brokers, `host:port`. Default `localhost:9092`.
    pub brokers: Vec<String>,
    /// Topics to make sure of at start-up, full names. Default none.
    pub topics: Vec<String>,
    /// The consumer group of the service's subscriptions. Default empty: the service's name.
    pub consumer_group: String,
    /// The JetStream consumer's name. Default empty: the consumer group.
    pub durable: String,
    /// The JetStream stream.
    pub stream: StreamConfig,
    /// The user. Default empty: none.
    pub user: String,
    /// The password. No default.
    pub password: Secret,
    /// How long connecting may last. Default 5 s.
    #[serde(with = "duration")]
    pub connection_timeout: Duration,
    /// How long the broker may take to acknowledge a published event. Default 5 s.
    #[serde(with = "duration")]
    pub publish_timeout: Duration,
}

impl Default for EventBusConfig {
    fn default() -> Self {
        Self {
            backend: String::new(),
            url: ConnectionUrl::default(),
            servers: vec!["nats://localhost:4222".into()],
            brokers: vec!["localhost:9092".into()],
            topics: Vec::new(),
            consumer_group: String::new(),
            durable: String::new(),
            stream: StreamConfig::default(),
            user: String::new(),
            password: Secret::default(),
            connection_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(5),
        }
    }
}

impl EventBusConfig {
    /// The backend's name: `memory`, `nats`, `kafka`, or another one that was configured.
    pub fn backend(&self) -> &str {
        backend::chosen(&self.backend, &self.url, "memory")
    }
}

impl Validate for EventBusConfig {
    fn validate(&self, violations: &mut Violations) {
        backend::check(&self.backend, &self.url, violations);
        if self.url.is_empty() {
            let needs = |backend| self.backend() == backend;
            violations.rule(
                "servers",
                !needs("nats") || !self.servers.is_empty(),
                "is required",
            );
            violations.rule(
                "brokers",
                !needs("kafka") || !self.brokers.is_empty(),
                "is required",
            );
        }
        for topic in &self.topics {
            if let Err(error) = Topic::parse(topic) {
                violations.add("topics", error.message());
            }
        }
        if !self.consumer_group.is_empty()
            && let Err(error) = Group::parse(&self.consumer_group)
        {
            violations.add("consumer_group", error.message());
        }
        violations.nested("stream", &self.stream);
        violations.positive_duration("connection_timeout", self.connection_timeout);
        violations.positive_duration("publish_timeout", self.publish_timeout);
    }
}

/// The JetStream stream that holds the events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamConfig {
    /// The stream's name. Default `CQC_EVENTS`.
    pub name: String,
    /// The subjects it takes. Default `cqc.events.v1.>`.
    pub subjects: Vec<String>,
    /// On how many servers it is kept, 1 to 5. Default 1.
    pub replicas: usize,
    /// How long an event is kept. Default 7 days.
    #[serde(with = "duration")]
    pub max_age: Duration,
    /// The most bytes it holds; the oldest events go first. Default 1 GiB.
    pub max_bytes: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            name: "CQC_EVENTS".into(),
            subjects: vec![format!("{TOPIC_PREFIX}>")],
            replicas: 1,
            max_age: Duration::from_secs(7 * 24 * 3600),
            max_bytes: 1 << 30,
        }
    }
}

impl Validate for StreamConfig {
    fn validate(&self, violations: &mut Violations) {
        let valid = !self.name.is_empty()
            && self
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        violations.rule("name", valid, "must be [A-Za-z0-9_-]+");
        violations.rule("subjects", !self.subjects.is_empty(), "is required");
        violations.range("replicas", self.replicas, 1..=5);
        violations.positive_duration("max_age", self.max_age);
        violations.rule("max_bytes", self.max_bytes > 0, "must be at least 1");
    }
}
