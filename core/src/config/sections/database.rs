use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    super::{ConnectionUrl, Validate, Violations, duration},
    backend,
};
use crate::secret::Secret;

/// The database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseConfig {
    /// `sqlite` or `postgres`. Default empty: what `url` says, else `sqlite` in memory, which ends with the process.
    pub backend: String,
    /// `sqlite://positions.db`, `sqlite::memory:`, `postgres://user:password@host/database`. Default empty. Parts
    /// that a URL leaves out are taken from the fields below.
    pub url: ConnectionUrl,
    /// The server's host. Default `localhost`.
    pub host: String,
    /// The server's port. Default 5432.
    pub port: u16,
    /// The database's name. No default; `postgres` needs one.
    pub database: String,
    /// The user. Default `postgres`.
    pub user: String,
    /// The password. No default.
    pub password: Secret,
    /// The most connections of the pool, 1 to 10,000. Default 25.
    pub max_connections: u32,
    /// The connections that are kept open when idle; at most `max_connections`. Default 0.
    pub min_connections: u32,
    /// How long taking a connection may last, waiting for a free one included. Default 5 s.
    #[serde(with = "duration")]
    pub connection_timeout: Duration,
    /// How long one statement may run. Default 30 s.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// After which time an idle connection is closed. Default 10 min.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// After which time any connection is replaced. Default 30 min.
    #[serde(with = "duration")]
    pub max_lifetime: Duration,
    /// A statement slower than this is logged. Default 1 s.
    #[serde(with = "duration")]
    pub slow_query_threshold: Duration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            backend: String::new(),
            url: ConnectionUrl::default(),
            host: "localhost".into(),
            port: 5432,
            database: String::new(),
            user: "postgres".into(),
            password: Secret::default(),
            max_connections: 25,
            min_connections: 0,
            connection_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(1800),
            slow_query_threshold: Duration::from_secs(1),
        }
    }
}

impl DatabaseConfig {
    /// The backend's name: `sqlite`, `postgres`, or another one that was configured.
    pub fn backend(&self) -> &str {
        backend::chosen(&self.backend, &self.url, "sqlite")
    }
}

impl Validate for DatabaseConfig {
    fn validate(&self, violations: &mut Violations) {
        backend::check(&self.backend, &self.url, violations);
        if self.backend() == "postgres" && self.url.is_empty() {
            violations.required("host", &self.host);
            violations.required("database", &self.database);
            violations.required("user", &self.user);
        }
        violations.port("port", self.port);
        violations.range("max_connections", self.max_connections, 1..=10_000);
        let within = self.min_connections <= self.max_connections;
        violations.rule(
            "min_connections",
            within,
            format!("must not be above max_connections ({})", self.max_connections),
        );
        violations.positive_duration("connection_timeout", self.connection_timeout);
        violations.positive_duration("statement_timeout", self.statement_timeout);
        violations.positive_duration("idle_timeout", self.idle_timeout);
        violations.positive_duration("max_lifetime", self.max_lifetime);
        violations.positive_duration("slow_query_threshold", self.slow_query_threshold);
    }
}
