use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations};

/// Metrics in Prometheus' format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsConfig {
    /// Whether anything is recorded and served. Default true.
    pub enabled: bool,
    /// The address metrics, and health in detail, are served on. Default `127.0.0.1`; in a container `0.0.0.0`.
    pub host: String,
    /// The port metrics are served on; 0 takes a free one. Default 9090.
    pub port: u16,
    /// The path metrics are served under. Default `/metrics`.
    pub path: String,
    /// The subsystems that record: `http`, `grpc`, `bus`, `cache`, `database`, `registry`, `retry`, `errors`, `auth`,
    /// `process` and the program's own. Default empty: all of them.
    pub subsystems: Vec<String>,
    /// The most series of one metric, 1 to 100,000; further label values are counted as `other`. Default 1,000.
    pub max_series: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            host: "127.0.0.1".into(),
            port: 9090,
            path: "/metrics".into(),
            subsystems: Vec::new(),
            max_series: 1000,
        }
    }
}

impl MetricsConfig {
    /// Whether a subsystem records (MET-11).
    pub fn records(&self, subsystem: &str) -> bool {
        self.enabled && (self.subsystems.is_empty() || self.subsystems.iter().any(|name| name == subsystem))
    }
}

impl Validate for MetricsConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.required("host", &self.host);
        violations.rule("path", self.path.starts_with('/'), "must begin with /");
        let word = |name: &String| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        violations.rule(
            "subsystems",
            self.subsystems.iter().all(word),
            "must be names of [a-z][a-z0-9_]*",
        );
        violations.range("max_series", self.max_series, 1..=100_000);
    }
}
