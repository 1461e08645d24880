//! Whether a consumer still finds its brokers.
//!
//! A broker that stood still, and is the only one, may answer for a moment that there are none. librdkafka then forgets it
//! and looks for no other, not even those it was started with: that client is of no more use
//! (<https://github.com/confluentinc/librdkafka/issues/5301>). Only its statistics show it. (A producer shows it by what it
//! fails to publish.)

use std::{
    collections::BTreeMap,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Release},
    },
};

use serde::Deserialize;

/// How often in a row a client must be found without brokers: one that begins anew has none for a moment.
const OFTEN: usize = 2;

/// What a client's statistics tell of its brokers.
#[derive(Debug, Default)]
pub(crate) struct Brokers {
    /// How often in a row there was none.
    none: AtomicUsize,
    /// How often the client had tried to connect to any, at the last look.
    attempts: AtomicU64,
}

/// The part of librdkafka's statistics that is read here, as its `STATISTICS.md` has it.
#[derive(Debug, Deserialize)]
struct Statistics {
    brokers: BTreeMap<String, Broker>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    source: String,
    state: String,
    connects: u64,
}

impl Broker {
    /// Whether it stands for a server, and not for whichever coordinates the group, or for the client itself.
    fn is_server(&self) -> bool {
        matches!(self.source.as_str(), "configured" | "learned")
    }

    fn is_idle(&self) -> bool {
        matches!(self.state.as_str(), "INIT" | "DOWN")
    }
}

impl Brokers {
    /// Takes in the statistics of a client, which are JSON.
    pub(crate) fn note(&self, statistics: &[u8]) {
        let statistics: Statistics = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => return tracing::debug!(%error, "statistics of the client cannot be read"),
        };
        let servers = || statistics.brokers.values().filter(|broker| broker.is_server());
        let attempts = servers().map(|server| server.connects).sum();
        let tries =
            self.attempts.swap(attempts, AcqRel) != attempts || servers().any(|server| !server.is_idle());
        let is_up = statistics.brokers.values().any(|broker| broker.state == "UP");
        if is_up || tries {
            self.none.store(0, Release);
        } else {
            self.none.fetch_add(1, AcqRel);
        }
    }

    /// Whether the client has none and looks for none, so that it cannot go on.
    pub(crate) fn are_forgotten(&self) -> bool {
        self.none.load(Acquire) >= OFTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statistics with these brokers: source, state, attempts.
    fn statistics(brokers: &[(&str, &str, u64)]) -> Vec<u8> {
        let brokers = brokers.iter().enumerate().map(|(n, (source, state, connects))| {
            format!(
                r#""{n}": {{"source": "{source}", "state": "{state}", "connects": {connects}, "wakeups": 1}}"#
            )
        });
        let brokers: Vec<_> = brokers.collect();
        format!(r#"{{"ts": 1, "brokers": {{{}}}}}"#, brokers.join(",")).into_bytes()
    }

    /// Whether a client that says the same four times, except for `attempts` more each time, has forgotten its brokers.
    fn forgotten(own: &[(&str, &str, u64)], attempts: u64) -> bool {
        let brokers = Brokers::default();
        for n in 0..4 {
            let own: Vec<_> = own
                .iter()
                .map(|(source, state, at)| (*source, *state, at + n * attempts))
                .collect();
            brokers.note(&statistics(&own));
        }
        brokers.are_forgotten()
    }

    #[test]
    fn a_client_without_brokers_is_found() {
        let coordinator = ("logical", "TRY_CONNECT", 1);
        assert!(forgotten(&[], 0));
        assert!(forgotten(&[coordinator], 1));
        assert!(forgotten(&[("learned", "INIT", 1), coordinator], 0));
    }

    #[test]
    fn a_client_whose_brokers_are_away_or_idle_is_left_alone() {
        let idle = [("learned", "INIT", 1), ("logical", "UP", 1)];
        assert!(!forgotten(&idle, 0));
        assert!(
            !forgotten(&[("configured", "DOWN", 1)], 1),
            "away, and looked for"
        );
        assert!(!forgotten(&[("learned", "CONNECT", 1)], 0), "connecting");
        let brokers = Brokers::default();
        for n in 0..2 {
            brokers.note(&statistics(&[]));
            brokers.note(&statistics(&[("configured", "INIT", n + 1)])); // begins anew
            brokers.note(b"not what it was");
        }
        assert!(!brokers.are_forgotten());
    }
}
