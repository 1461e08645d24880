//! Keeps a server that is down from being asked by every caller at once (DB-7).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cqi_core::Error;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(20);
/// Also how much later than the server a caller can be.
const LONGEST: Duration = Duration::from_millis(500);

/// What is known of a server that could not be connected to.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<Failure>>);

#[derive(Debug)]
struct Failure {
    error: Error,
    pause: Duration,
    until: Instant,
}

impl Outage {
    /// The last failure while its pause lasts: then nobody asks the server. The pause doubles with each failure.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &*self.lock() {
            Some(failure) => match failure.until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => Err(failure.error.clone().with_retry_after(left)),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&self, error: &Error) {
        let mut state = self.lock();
        let now = Instant::now();
        let pause = match &*state {
            // Of several callers that failed together one counts.
            Some(failure) if now < failure.until => return,
            Some(failure) => (failure.pause * 2).min(LONGEST),
            None => FIRST,
        };
        *state = Some(Failure {
            error: error.clone(),
            pause,
            until: now + pause,
        });
    }

    pub(crate) fn ended(&self) {
        *self.lock() = None;
    }

    /// The last failure since a connection worked.
    pub(crate) fn last(&self) -> Option<Error> {
        self.lock().as_ref().map(|failure| failure.error.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn db_7_pauses_double_up_to_a_limit() {
        let outage = Outage::default();
        outage.check().unwrap();
        let mut pause = FIRST;
        for _ in 0..10 {
            outage.failed(&Error::temporary("down"));
            outage.failed(&Error::temporary("down too"));
            assert_eq!(outage.check().unwrap_err().retry_after(), Some(pause));
            tokio::time::advance(pause).await;
            outage.check().unwrap();
            pause = (pause * 2).min(LONGEST);
        }
        assert_eq!(outage.last().unwrap().message(), "down");
        outage.ended();
        assert!(outage.last().is_none());
    }
}
