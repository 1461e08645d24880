//! Pauses between attempts.

use std::time::Duration;

/// An exponential pause: `initial * multiplier^(n-1)` before retry `n`, capped at `max`, with jitter (RET-4, RET-5).
///
/// The cap comes first, jitter after, and the result is capped again (OP-18).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The pause before the first retry.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
    /// The growth from one pause to the next; at least 1.
    pub multiplier: f64,
    /// The share by which a pause may be shorter or longer, from 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    /// 1 s, doubling up to 30 s, ±25 %.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: 0.25,
        }
    }
}

impl Backoff {
    /// The pause before retry `retry`, from 1.
    pub fn delay(&self, retry: u32) -> Duration {
        let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        let max = self.max.as_secs_f64();
        let plain = (self.initial.as_secs_f64() * self.multiplier.powi(exponent)).min(max);
        let spread = if self.jitter > 0.0 {
            (rand::random::<f64>() * 2.0 - 1.0) * self.jitter
        } else {
            0.0
        };
        // NaN (0 * inf) and overflow both end at the cap.
        Duration::try_from_secs_f64((plain * (1.0 + spread)).min(max)).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ret_4_pauses_grow_to_the_cap() {
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::default()
        };
        let seconds: Vec<_> = (1..=7).map(|retry| backoff.delay(retry).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }

    proptest! {
        #[test]
        fn ret_5_12_jitter_stays_within_its_share_and_the_cap(retry in 1u32..2000, multiplier in 1.0f64..10.0) {
            let plain = Backoff { multiplier, jitter: 0.0, ..Backoff::default() };
            let jittered = Backoff { multiplier, jitter: 0.25, ..Backoff::default() };
            let (plain, got) = (plain.delay(retry).as_secs_f64(), jittered.delay(retry).as_secs_f64());
            prop_assert!(got >= plain * 0.75 - 1e-6 && got <= (plain * 1.25 + 1e-6).min(30.0), "{plain} {got}");
        }
    }
}
