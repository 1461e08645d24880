//! What is told about an exporter: one line when it begins to fail, then one a minute, and one when it works again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::home::Home;

/// How often a failure that goes on is told.
const REMINDER: Duration = Duration::from_secs(60);

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Spans the collector took.
    pub(crate) exported: AtomicU64,
    /// Spans that found the queue full, or the exporter stopped.
    pub(crate) full: AtomicU64,
    /// Spans of batches that were given up.
    pub(crate) failed: AtomicU64,
    /// Spans the collector refused.
    pub(crate) refused: AtomicU64,
}

impl Counts {
    pub(super) fn lost(&self) -> u64 {
        [&self.full, &self.failed, &self.refused]
            .iter()
            .map(|count| count.load(Relaxed))
            .sum()
    }
}

/// Tells the log.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) home: Home,
    pub(super) counts: Arc<Counts>,
    pub(super) endpoint: String,
    pub(super) told: Option<Told>,
}

#[derive(Debug)]
pub(super) struct Told {
    at: Instant,
    lost: u64,
}

impl Reporter {
    pub(super) fn failing(&mut self, why: &str) {
        let (now, lost) = (Instant::now(), self.counts.lost());
        if self.told.as_ref().is_some_and(|told| now < told.at + REMINDER) {
            return;
        }
        let before = self.told.as_ref().map_or(lost, |told| told.lost);
        self.told = Some(Told { at: now, lost });
        let (endpoint, spans_lost) = (self.endpoint.as_str(), lost - before);
        self.home.run(|| {
            tracing::warn!(
                endpoint,
                error = why,
                spans_lost,
                "traces cannot be exported; requests go on"
            );
        });
    }

    pub(super) fn works(&mut self) {
        if self.told.take().is_some() {
            let (endpoint, spans_lost) = (self.endpoint.as_str(), self.counts.lost());
            self.home
                .run(|| tracing::info!(endpoint, spans_lost, "traces are exported again"));
        }
    }

    pub(super) fn refused(&mut self, spans: u64) {
        let endpoint = self.endpoint.as_str();
        self.home
            .run(|| tracing::debug!(endpoint, spans, "the collector refused spans"));
    }
}
