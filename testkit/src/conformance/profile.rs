//! How long and how much a suite tests.

use std::time::Duration;

/// Which clock an adapter lives by.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Tokio's, which stands still while there is work and jumps while there is none: for adapters in memory.
    Paused,
    /// The real one: for everything that talks to another thread or process.
    Real,
}

/// How long and how much a suite tests on one adapter.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Which clock the adapter lives by.
    pub clock: Clock,
    /// Whether the small counts are used. The default is what the environment variable `CQI_QUICK` says.
    pub quick: bool,
    /// Within what time something that must come has to come.
    pub limit: Duration,
    /// How long a case watches that something does not come.
    pub quiet: Duration,
    /// The unit of waiting: ack deadlines and times to live are small multiples of it.
    pub step: Duration,
}

impl Profile {
    /// For adapters in memory: seconds that cost nothing.
    pub fn paused() -> Self {
        Self {
            clock: Clock::Paused,
            quick: quick_by_environment(),
            limit: Duration::from_secs(60),
            quiet: Duration::from_secs(5),
            step: Duration::from_secs(2),
        }
    }

    /// For adapters that talk to a server.
    pub fn real() -> Self {
        Self {
            clock: Clock::Real,
            quick: quick_by_environment(),
            limit: Duration::from_secs(30),
            quiet: Duration::from_millis(500),
            step: Duration::from_secs(1),
        }
    }

    /// The same with the small counts.
    pub fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    /// The same with another time to wait for what must come.
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The same with another time to watch that nothing comes.
    pub fn with_quiet(self, quiet: Duration) -> Self {
        Self { quiet, ..self }
    }

    /// The same with another unit of waiting.
    pub fn with_step(self, step: Duration) -> Self {
        Self { step, ..self }
    }

    /// The count for this profile.
    pub(crate) fn count(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

#[allow(clippy::disallowed_methods)] // a switch of the test run, not configuration of a service
fn quick_by_environment() -> bool {
    std::env::var("CQI_QUICK").is_ok_and(|value| !value.is_empty() && value != "0")
}
