use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations, duration};
use crate::policy::Retry;

/// How a failed call is repeated (RET-3, OP-18).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryConfig {
    /// Attempts in all, the first included, 1 to 100. Default 3.
    pub attempts: u32,
    /// The pause before the first retry. Default 1 s.
    #[serde(with = "duration")]
    pub initial: Duration,
    /// The longest pause; at least `initial`. Default 30 s.
    #[serde(with = "duration")]
    pub max: Duration,
    /// Growth of the pause, 1 to 100. Default 2.
    pub multiplier: f64,
    /// Share of random spread, 0 to 1. Default 0.25.
    pub jitter: f64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let Retry {
            attempts,
            initial,
            max,
            multiplier,
            jitter,
            ..
        } = Retry::default();
        Self {
            attempts,
            initial,
            max,
            multiplier,
            jitter,
        }
    }
}

impl From<&RetryConfig> for Retry {
    fn from(config: &RetryConfig) -> Self {
        let RetryConfig {
            attempts,
            initial,
            max,
            multiplier,
            jitter,
        } = *config;
        Self {
            attempts,
            initial,
            max,
            multiplier,
            jitter,
            ..Self::default()
        }
    }
}

impl Validate for RetryConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.range("attempts", self.attempts, 1..=100);
        violations.positive_duration("initial", self.initial);
        violations.positive_duration("max", self.max);
        violations.rule(
            "max",
            self.max >= self.initial,
            "must not be shorter than initial",
        );
        violations.range("multiplier", self.multiplier, 1.0..=100.0);
        violations.range("jitter", self.jitter, 0.0..=1.0);
    }
}
