use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations, duration};

/// What happens when a store or broker cannot be reached at the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartupConfig {
    /// How long the start waits, trying again and again, for stores and brokers that cannot be reached. Default 0: it
    /// fails at once. The service listens to nobody meanwhile, so it is not ready.
    #[serde(with = "duration")]
    pub wait: Duration,
}

impl Validate for StartupConfig {
    fn validate(&self, _: &mut Violations) {} // any duration that can be written is valid
}
