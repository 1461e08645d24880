//! What the tests share.

use std::time::Duration;

use cqi_nats::NatsOptions;

/// Options for a server in a test.
pub(crate) fn options(url: &str) -> NatsOptions {
    NatsOptions::new(url)
}

/// How long anything may take that has to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
