//! Moments that outlive a process.

use std::time::Duration;

use tokio::time::Instant;

/// One moment on both clocks: this process's own, and the one all processes share as well as they can.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) millis: u64,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self {
            now: Instant::now(),
            millis: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default(),
        }
    }

    /// The moment on this process's clock, if it is still to come.
    pub(super) fn instant(self, millis: u64) -> Option<Instant> {
        let wait = millis.checked_sub(self.millis).filter(|wait| *wait > 0)?;
        self.now.checked_add(Duration::from_millis(wait))
    }

    /// The moment on the shared clock, never an earlier one: both numbers were rounded down.
    pub(super) fn millis(self, at: Instant) -> u64 {
        let wait = at.saturating_duration_since(self.now).as_millis() + 2;
        self.millis
            .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}
