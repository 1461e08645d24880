//! The thread that sends spans.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    client::Client,
    options::ExportOptions,
    otlp,
    report::{Counts, Reporter},
};
use crate::FinishedSpan;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) spans: mpsc::Receiver<FinishedSpan>,
    /// How long there is to flush, once the exporter is to end.
    pub(super) stop: watch::Receiver<Option<Duration>>,
    /// Until when that is.
    pub(super) until: Arc<OnceLock<Instant>>,
    /// Enough spans wait.
    pub(super) came: Arc<Notify>,
    pub(super) client: Client,
    /// Who sends, encoded.
    pub(super) resource: Bytes,
    pub(super) options: ExportOptions,
    pub(super) counts: Arc<Counts>,
    pub(super) reporter: Reporter,
}

impl Worker {
    /// Sends spans until the exporter is dropped or stopped, then what is left. Says how many were lost at the end.
    pub(super) async fn run(mut self) -> u64 {
        let mut batch = Vec::new();
        let mut lost = 0;
        while self.fill(&mut batch).await {
            lost = self.deliver(&batch).await;
            batch.clear();
        }
        // What comes from now on is dropped and counted by the sender.
        self.spans.close();
        while self.spans.recv_many(&mut batch, self.options.batch).await > 0 {
            if lost == 0 {
                lost += self.deliver(&batch).await;
            } else {
                // The collector does not answer: the rest would only wait for the deadline.
                lost += self.give_up(batch.len());
            }
            batch.clear();
        }
        lost
    }

    /// Waits for spans, and a while for more of them. False when there will be none or the exporter is stopped.
    async fn fill(&mut self, batch: &mut Vec<FinishedSpan>) -> bool {
        let max = self.options.batch;
        let came = tokio::select! {
            biased;
            _ = stopped(&mut self.stop) => 0,
            came = self.spans.recv_many(batch, max) => came,
        };
        if came > 0 && came < self.options.enough() {
            tokio::select! {
                _ = stopped(&mut self.stop) => {}
                () = self.came.notified() => {}
                () = sleep(self.options.delay) => {}
            }
            while batch.len() < max
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
        }
        came > 0
    }

    /// Sends a batch, more than once if need be. Says how many of its spans were lost after a stop.
    async fn deliver(&mut self, batch: &[FinishedSpan]) -> u64 {
        let count = batch.len();
        let request = otlp::request(&self.resource, batch);
        let (mut stop, until) = (self.stop.clone(), Arc::clone(&self.until));
        let delivered = tokio::select! {
            delivered = self.attempts(&request) => delivered,
            () = deadline(&mut stop, &until) => None,
        };
        match delivered {
            Some(refused) => {
                self.counts
                    .exported
                    .fetch_add(count as u64 - refused.min(count as u64), Relaxed);
                if refused > 0 {
                    self.counts.refused.fetch_add(refused, Relaxed);
                    self.reporter.refused(refused);
                }
                self.reporter.works();
                0
            }
            None => {
                let lost = self.give_up(count);
                if self.stop.borrow().is_some() { lost } else { 0 }
            }
        }
    }

    fn give_up(&self, spans: usize) -> u64 {
        self.counts.failed.fetch_add(spans as u64, Relaxed);
        spans as u64
    }

    /// `None` when the batch is given up; else how many spans the collector refused.
    async fn attempts(&mut self, request: &Bytes) -> Option<u64> {
        let mut pause = self.options.backoff;
        for attempt in 1.. {
            let stopping = self.stop.borrow().is_some();
            let failure = match self.client.send(request.clone()).await {
                Ok(refused) => return Some(refused),
                Err(failure) => failure,
            };
            self.reporter.failing(&failure.why);
            if !failure.may_pass || attempt >= self.options.attempts || stopping {
                return None;
            }
            // A stop ends the pause: there is one more attempt then.
            tokio::select! {
                _ = stopped(&mut self.stop) => {}
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        None
    }
}

/// Ready once the exporter is to end; never when it was only dropped.
async fn stopped(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await.map(|limit| *limit) {
        Ok(Some(limit)) => limit,
        _ => std::future::pending().await,
    }
}

/// Ready when the time to flush is over.
async fn deadline(stop: &mut watch::Receiver<Option<Duration>>, until: &OnceLock<Instant>) {
    let limit = stopped(stop).await;
    // As good as any longer time, which may be too long for the clock.
    let end = || Instant::now() + limit.min(YEAR);
    sleep_until(*until.get_or_init(end)).await;
}
