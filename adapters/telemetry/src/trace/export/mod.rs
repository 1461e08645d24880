//! Sending finished spans to a collector by OTLP.
//!
//! Spans wait in a bounded queue; one thread with a runtime of its own takes them out in batches and sends them. Nothing
//! that the collector does, or does not do, reaches the threads that end spans: a span that finds the queue full is
//! dropped and counted.

mod client;
mod codec;
mod options;
mod otlp;
mod report;
mod semantic;
mod worker;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use cqi_core::{Error, Result};
use tokio::sync::{Notify, mpsc, watch};
use tracing::Dispatch;

pub use self::options::ExportOptions;
pub(crate) use self::report::Counts;
use self::{client::Client, options::Endpoint, report::Reporter, worker::Worker};
use super::{FinishedSpan, SpanSink};
use crate::{ServiceIdentity, home::Home};

/// Sends finished spans to a collector. Its thread ends when it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Exporter {
    queue: mpsc::Sender<FinishedSpan>,
    /// How many spans are worth a request.
    enough: usize,
    came: Arc<Notify>,
    counts: Arc<Counts>,
    stop: watch::Sender<Option<Duration>>,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Thread {
    handle: thread::JoinHandle<()>,
    /// How many spans were lost at the end.
    ended: std_mpsc::Receiver<u64>,
}

impl Exporter {
    /// Starts an exporter to `endpoint`: `host:port` or `http(s)://host:port` is gRPC, a URL with a path is HTTP. `None`
    /// when it is empty. The collector need not be there yet.
    ///
    /// # Errors
    /// `InvalidInput` for an endpoint, header or certificate that cannot be used; `Permanent` when the system gives no
    /// thread.
    pub(crate) fn start(
        endpoint: &str,
        service: &ServiceIdentity,
        options: ExportOptions,
        home: Home,
    ) -> Result<Option<Self>> {
        let Some(endpoint) = Endpoint::parse(endpoint)? else {
            return Ok(None);
        };
        let options = ExportOptions {
            queue: options.queue.max(1),
            batch: options.batch.max(1),
            ..options
        };
        let failed = |error| Error::permanent("the exporter of traces cannot start").with_source(error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let client = {
            let _inside = runtime.enter();
            Client::new(&endpoint, &options)?
        };
        let (queue, spans) = mpsc::channel(options.queue);
        let (stop, stopped) = watch::channel(None);
        let (came, counts) = (Arc::new(Notify::new()), Arc::new(Counts::default()));
        let enough = options.enough();
        let worker = Worker {
            spans,
            stop: stopped,
            until: Arc::default(),
            came: Arc::clone(&came),
            client,
            resource: otlp::resource(service, &options),
            options,
            counts: Arc::clone(&counts),
            reporter: Reporter {
                home,
                counts: Arc::clone(&counts),
                endpoint: endpoint.address().to_owned(),
                told: None,
            },
        };
        let (end, ended) = std_mpsc::channel();
        let work = move || {
            // No subscriber on this thread: the exporter must not trace itself.
            let lost =
                tracing::dispatcher::with_default(&Dispatch::none(), || runtime.block_on(worker.run()));
            // A look-up of a name may still hang.
            runtime.shutdown_background();
            let _ = end.send(lost);
        };
        let handle = thread::Builder::new()
            .name("cqi-traces".into())
            .spawn(work)
            .map_err(failed)?;
        Ok(Some(Self {
            queue,
            enough,
            came,
            counts,
            stop,
            thread: Mutex::new(Some(Thread { handle, ended })),
        }))
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Sends what waits and ends the thread, within `limit`. Blocks the thread it is called on. A second call does
    /// nothing.
    ///
    /// # Errors
    /// `Temporary` when spans were lost, or the thread did not end in time.
    pub(crate) fn stop(&self, limit: Duration) -> Result<()> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Thread { handle, ended }) = thread else {
            return Ok(());
        };
        // A tenth is left for the way back.
        self.stop.send_replace(Some(limit.mul_f64(0.9)));
        match ended.recv_timeout(limit) {
            Ok(lost) => {
                let _ = handle.join();
                if lost == 0 {
                    return Ok(());
                }
                Err(Error::temporary("spans were not exported").with_context("spans", lost))
            }
            Err(_) => Err(Error::timeout(limit).with_operation("telemetry.export")),
        }
    }
}

impl SpanSink for Exporter {
    fn take(&self, span: FinishedSpan) {
        if self.queue.try_send(span).is_err() {
            self.counts.full.fetch_add(1, Relaxed);
        }
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        // Not for fewer, so that a busy program does not wake the thread for every span; and not for so many alone, which
        // two spans that end at once step over: the queue would overflow while the thread waits for company.
        if waiting >= self.enough {
            self.came.notify_one();
        }
    }
}
