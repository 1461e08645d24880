use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations, duration};

/// How services of the process are restarted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerConfig {
    /// `never`, `on_failure` or `always`. Default `never`: the process ends and whoever started it restarts it.
    pub restart: RestartPolicy,
    /// The most restarts of one service in a row, 0 to 1,000. Default 5.
    pub max_retries: u32,
    /// The pause before the first restart. Default 1 s.
    #[serde(with = "duration")]
    pub initial_backoff: Duration,
    /// The longest pause; at least `initial_backoff`. Default 30 s.
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    /// Growth of the pause, 1 to 100. Default 2.
    pub multiplier: f64,
    /// Share of random spread, 0 (none) to 1. Default 0.25.
    pub jitter: f64,
}

/// When a service that ended is started again (RUN-6).
#[allow(clippy::exhaustive_enums)] // settled by RUN-6
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    Never,
    /// When it failed.
    OnFailure,
    /// Whenever it ends.
    Always,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            restart: RestartPolicy::Never,
            max_retries: 5,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: 0.25,
        }
    }
}

impl Validate for RunnerConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.range("max_retries", self.max_retries, 0..=1000);
        violations.positive_duration("initial_backoff", self.initial_backoff);
        violations.positive_duration("max_backoff", self.max_backoff);
        let ordered = self.max_backoff >= self.initial_backoff;
        violations.rule("max_backoff", ordered, "must not be shorter than initial_backoff");
        violations.range("multiplier", self.multiplier, 1.0..=100.0);
        violations.range("jitter", self.jitter, 0.0..=1.0);
    }
}

/// Health checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthConfig {
    /// How long one check may take. Default 5 s (HLT-6).
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How long a result is kept, so that many questions run a check once; 0 s for not at all. Default 1 s (HLT-9).
    #[serde(with = "duration")]
    pub cache: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            cache: Duration::from_secs(1),
        }
    }
}

impl Validate for HealthConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.positive_duration("timeout", self.timeout);
        violations.max_duration("cache", self.cache);
    }
}
