use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    super::{ConnectionUrl, Validate, Violations, duration},
    backend,
};
use crate::secret::Secret;

/// Service registration and discovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    /// `memory` (alias `local`) or `redis`. Default empty: what `url` says, else `memory`, which knows this process only.
    pub backend: String,
    /// `memory://`, `redis://host:6379`. Default empty.
    pub url: ConnectionUrl,
    /// The password of the store. No default.
    pub password: Secret,
    /// How often a registration is renewed. Default 10 s.
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    /// How long a registration lives unless renewed; longer than `heartbeat_interval`. Default 30 s.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// How long one call may last. Default 5 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The address other services reach this one at. Default empty: the one its server is bound to, or `localhost` where
    /// that listens on all, which is of use on one host only.
    pub address: String,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            backend: String::new(),
            url: ConnectionUrl::default(),
            password: Secret::default(),
            heartbeat_interval: Duration::from_secs(10),
            ttl: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            address: String::new(),
        }
    }
}

impl RegistryConfig {
    /// The backend's name: `memory`, `redis`, or another one that was configured.
    pub fn backend(&self) -> &str {
        backend::chosen(&self.backend, &self.url, "memory")
    }
}

impl Validate for RegistryConfig {
    fn validate(&self, violations: &mut Violations) {
        backend::check(&self.backend, &self.url, violations);
        violations.rule(
            "url",
            self.backend() != "redis" || !self.url.is_empty(),
            "is required",
        );
        violations.positive_duration("heartbeat_interval", self.heartbeat_interval);
        violations.positive_duration("ttl", self.ttl);
        violations.rule(
            "ttl",
            self.ttl > self.heartbeat_interval,
            "must be longer than heartbeat_interval",
        );
        violations.positive_duration("timeout", self.timeout);
    }
}
