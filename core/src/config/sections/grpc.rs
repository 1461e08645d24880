use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations};

/// The gRPC server. Its time limits and its certificate are those of `server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcConfig {
    /// The address it listens on. Default `0.0.0.0`.
    pub host: String,
    /// The port it listens on; 0 takes a free one. Default 9000.
    pub port: u16,
    /// The largest message, in either direction, in bytes. Default 4 MiB.
    pub max_message_bytes: usize,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".into(),
            port: 9000,
            max_message_bytes: 4 << 20,
        }
    }
}

impl Validate for GrpcConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.required("host", &self.host);
        violations.range("max_message_bytes", self.max_message_bytes, 1024..=1 << 30);
    }
}
