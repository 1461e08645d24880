use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations};

/// Traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TracingConfig {
    /// Where finished spans are sent by OTLP: `host:port` or `http(s)://host:port` by gRPC, a URL with a path such as
    /// `http://host:4318/v1/traces` by HTTP; empty: nowhere. Default empty.
    pub endpoint: String,
    /// The share of new traces that are recorded: 0 none, 1 all. A trace that came in from outside keeps its caller's
    /// decision. Default 0.1.
    pub sample_rate: f64,
    /// The service's name in traces. Default empty: `service_name`.
    pub service_name: String,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            sample_rate: 0.1,
            service_name: String::new(),
        }
    }
}

impl Validate for TracingConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.range("sample_rate", self.sample_rate, 0.0..=1.0);
    }
}
