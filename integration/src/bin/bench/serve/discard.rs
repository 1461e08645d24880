//! An exporter that drops its batches.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use cqi::telemetry::{FinishedSpan, SpanSink, TelemetryOptions};

/// The most spans that wait, and how many are a batch.
const QUEUE: usize = 2048;
const BATCH: usize = 512;

/// Has spans wait for a thread that drops them, in batches.
#[derive(Debug, Default)]
struct Discard {
    waiting: Mutex<Vec<FinishedSpan>>,
    batch: Condvar,
}

impl SpanSink for Discard {
    fn take(&self, span: FinishedSpan) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < QUEUE {
            waiting.push(span);
        }
        if waiting.len() == BATCH {
            self.batch.notify_one();
        }
    }
}

impl Discard {
    fn run(&self) {
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let few = |waiting: &mut Vec<FinishedSpan>| waiting.len() < BATCH;
            let waited = self
                .batch
                .wait_timeout_while(waiting, Duration::from_secs(1), few);
            let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
            let batch = std::mem::replace(&mut *waiting, Vec::with_capacity(BATCH));
            drop(waiting);
            drop(batch);
        }
    }
}

/// Telemetry whose spans go nowhere, by way of a queue.
pub(crate) fn options() -> TelemetryOptions {
    let sink = Arc::new(Discard::default());
    let exporter = Arc::clone(&sink);
    thread::spawn(move || exporter.run()); // until the process ends
    let mut options = TelemetryOptions::default();
    options.sink = Some(sink);
    options
}
