use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    super::{ConnectionUrl, Validate, Violations, duration},
    backend,
};
use crate::{cache::check_key_prefix, secret::Secret};

/// The cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheConfig {
    /// `memory` or `redis`. Default empty: what `url` says, else `memory`, which each process has for itself.
    pub backend: String,
    /// `memory://`, `redis://host:6379`, `rediss://host` (TLS). Default empty. Parts that a URL leaves out are taken
    /// from the fields below.
    pub url: ConnectionUrl,
    /// The server's host. Default `localhost`.
    pub host: String,
    /// The server's port. Default 6379.
    pub port: u16,
    /// The user. Default empty: the server's default user.
    pub user: String,
    /// The password. No default.
    pub password: Secret,
    /// The number of the logical database. Default 0.
    pub database: u32,
    /// What is put before every key, with a `:`, where several services share a server: up to 64 letters, digits, `.`, `_`
    /// and `-`. `memory` needs none. Default empty.
    pub key_prefix: String,
    /// How long connecting may last. Default 5 s.
    #[serde(with = "duration")]
    pub connection_timeout: Duration,
    /// How long one command may last. Default 5 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The most entries that `memory` keeps, at least 1. Default 100,000.
    pub max_entries: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            backend: String::new(),
            url: ConnectionUrl::default(),
            host: "localhost".into(),
            port: 6379,
            user: String::new(),
            password: Secret::default(),
            database: 0,
            key_prefix: String::new(),
            connection_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            max_entries: 100_000,
        }
    }
}

impl CacheConfig {
    /// The backend's name: `memory`, `redis`, or another one that was configured.
    pub fn backend(&self) -> &str {
        backend::chosen(&self.backend, &self.url, "memory")
    }
}

impl Validate for CacheConfig {
    fn validate(&self, violations: &mut Violations) {
        backend::check(&self.backend, &self.url, violations);
        if self.backend() == "redis" && self.url.is_empty() {
            violations.required("host", &self.host);
        }
        violations.port("port", self.port);
        violations.positive_duration("connection_timeout", self.connection_timeout);
        violations.positive_duration("timeout", self.timeout);
        violations.rule(
            "key_prefix",
            check_key_prefix(&self.key_prefix).is_ok(),
            "may have up to 64 letters, digits, `.`, `_` and `-`",
        );
        violations.rule("max_entries", self.max_entries > 0, "must be at least 1");
    }
}
