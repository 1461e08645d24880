//! Whether handlers end so quickly that one worker can run them all, and when others need the thread.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// What a handler may take without the others being called in.
const QUICK: Duration = Duration::from_micros(20);
/// After a slow handler, so many quick ones must follow.
const CALM: u32 = 64;
/// Looking at the clock costs as much as a short handler, so only one in so many is timed while all are quick.
const SAMPLE: u32 = 8;
/// For how long handlers may have the thread before everybody else has a turn: what keeps the leases, for one.
const TURN: Duration = Duration::from_millis(1);

/// How the handlers of a subscription have run lately. Its counts are guesses; a lost one does no harm.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How many quick handlers must end before one worker is enough.
    unrest: AtomicU32,
    started: AtomicU32,
    /// For how many microseconds handlers had the thread since others had a turn.
    taken: AtomicU32,
}

impl Pace {
    /// Whether one worker is enough for now.
    pub(super) fn is_quick(&self) -> bool {
        self.unrest.load(Relaxed) == 0
    }

    /// A handler starts; the moment, if it is timed.
    pub(super) fn start(&self) -> Option<Instant> {
        let count = self.started.load(Relaxed).wrapping_add(1);
        self.started.store(count, Relaxed);
        (!self.is_quick() || count.is_multiple_of(SAMPLE)).then(Instant::now)
    }

    /// It has ended, or has to wait: what counts is how long it had the thread. Says whether it is the others' turn.
    pub(super) fn end(&self, started: Option<Instant>) -> bool {
        let Some(started) = started else { return false };
        let (took, unrest) = (started.elapsed(), self.unrest.load(Relaxed));
        if took > QUICK {
            self.unrest.store(CALM, Relaxed);
        } else if unrest > 0 {
            self.unrest.store(unrest - 1, Relaxed);
        }
        let taken = Duration::from_micros(self.taken.load(Relaxed).into()).saturating_add(took);
        let others = taken >= TURN;
        let left = if others { 0 } else { taken.subsec_micros() };
        self.taken.store(left, Relaxed);
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_slow_handler_calls_the_others_in_until_many_were_quick() {
        let pace = Pace::default();
        let handler = async |takes: Duration| {
            let started = pace.start();
            tokio::time::advance(takes).await;
            pace.end(started);
        };
        for _ in 0..SAMPLE {
            assert!(pace.is_quick());
            handler(Duration::from_millis(1)).await;
        }
        assert!(!pace.is_quick(), "one of so many is timed");
        for _ in 0..CALM {
            assert!(!pace.is_quick());
            handler(Duration::ZERO).await;
        }
        assert!(pace.is_quick());
    }
}
