//! Putting log, traces and metrics together.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Error, Result,
    config::{LogConfig, MetricsConfig, TracingConfig},
    observe::Observer,
};
use tokio::time::Instant;
use tracing::Subscriber;
use tracing_subscriber::{layer::SubscriberExt, registry::Registry};

use crate::{
    Redaction,
    home::Home,
    log::{LogHandle, LogLayer, Output},
    mask::Masker,
    metrics::Metrics,
    observer::TelemetryObserver,
    trace::{ExportOptions, Exporter, SpanSink, TraceLayer},
};

/// Who a service is, on every log line and in every metric's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceIdentity {
    /// The name, `[a-z][a-z0-9_-]*`.
    pub name: String,
    /// The version; empty: left out.
    pub version: String,
    /// Which of several running copies this is; empty: left out.
    pub instance: String,
}

impl ServiceIdentity {
    /// A service of this name, of no version.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Sets the version.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets which copy this is.
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

/// What the configuration does not say.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct TelemetryOptions {
    /// What is hidden in log lines and span attributes, to which the configuration adds.
    pub redaction: Redaction,
    /// How recorded spans are kept and sent.
    pub export: ExportOptions,
    /// Takes recorded spans instead of the exporter, which is not started then.
    pub sink: Option<Arc<dyn SpanSink>>,
}

/// The telemetry of one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    metrics: Metrics,
    log: LogHandle,
    observer: Arc<TelemetryObserver>,
    exporter: Option<Arc<Exporter>>,
}

impl Telemetry {
    /// Makes the telemetry and installs log and traces for the whole process. Recorded spans are sent to
    /// [`TracingConfig::endpoint`], if there is one: by gRPC to `host:port` or `http(s)://host:port`, by HTTP to a URL with
    /// a path such as `http://host:4318/v1/traces`.
    ///
    /// Call [`Telemetry::shutdown`] before the process ends, or its last spans and lines are lost.
    ///
    /// # Errors
    /// As [`Telemetry::build`]; `Permanent`/`AlreadyExists` when the process has a `tracing` subscriber already.
    pub fn init(
        log: &LogConfig,
        metrics: &MetricsConfig,
        tracing: &TracingConfig,
        service: ServiceIdentity,
    ) -> Result<Self> {
        Self::init_with(log, metrics, tracing, service, TelemetryOptions::default())
    }

    /// As [`Telemetry::init`], with what the configuration does not say.
    ///
    /// # Errors
    /// As [`Telemetry::init`].
    pub fn init_with(
        log: &LogConfig,
        metrics: &MetricsConfig,
        tracing: &TracingConfig,
        service: ServiceIdentity,
        options: TelemetryOptions,
    ) -> Result<Self> {
        let output = Output::open_with(&log.output, log.buffer)?;
        let (telemetry, subscriber) = Self::build_with(log, metrics, tracing, service, options, output)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|error| {
            Error::permanent("the process has a tracing subscriber already")
                .with_code(cqi_core::Code::AlreadyExists)
                .with_source(error)
        })?;
        Ok(telemetry)
    }

    /// Makes the telemetry without installing it: tests and benches use [`tracing::subscriber::with_default`].
    /// Recorded spans go to `sink` when they end, or nowhere.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong configuration or service name, or an output that cannot be opened.
    pub fn build(
        log: &LogConfig,
        metrics: &MetricsConfig,
        tracing: &TracingConfig,
        service: ServiceIdentity,
        sink: Option<Arc<dyn SpanSink>>,
    ) -> Result<(Self, impl Subscriber + Send + Sync + use<>)> {
        let output = Output::open_with(&log.output, log.buffer)?;
        Self::build_with_output(log, metrics, tracing, service, sink, output)
    }

    /// As [`Telemetry::build`], writing to `output` instead of the configured one.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong configuration or service name.
    pub fn build_with_output(
        log: &LogConfig,
        metrics: &MetricsConfig,
        tracing: &TracingConfig,
        service: ServiceIdentity,
        sink: Option<Arc<dyn SpanSink>>,
        output: Output,
    ) -> Result<(Self, impl Subscriber + Send + Sync + use<>)> {
        let nowhere = TracingConfig {
            endpoint: String::new(),
            ..tracing.clone()
        };
        let options = TelemetryOptions {
            sink,
            ..TelemetryOptions::default()
        };
        Self::build_with(log, metrics, &nowhere, service, options, output)
    }

    /// Makes the telemetry without installing it, with the exporter that [`Telemetry::init`] has.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong configuration, service name or endpoint; `Permanent` when the system gives no thread.
    #[allow(clippy::needless_pass_by_value)] // identity and options are made for this call
    pub fn build_with(
        log: &LogConfig,
        metrics: &MetricsConfig,
        tracing: &TracingConfig,
        service: ServiceIdentity,
        options: TelemetryOptions,
        output: Output,
    ) -> Result<(Self, impl Subscriber + Send + Sync + use<>)> {
        if !(0.0..=1.0).contains(&tracing.sample_rate) {
            return Err(Error::invalid_input("tracing.sample_rate must be from 0 to 1"));
        }
        let metrics = Metrics::new(metrics, &service.name)?;
        let handle = LogHandle::new(log.level.parse()?, Arc::new(output));
        let home = handle.output().home().clone();
        let TelemetryOptions {
            redaction,
            export,
            sink,
        } = options;
        let masker = Arc::new(Masker::new(&redaction.with(log)));
        let exporter = match sink {
            Some(_) => None,
            None => exporter(tracing, &service, export, home.clone())?,
        };
        metrics.watch_log(handle.output())?;
        if let Some(exporter) = &exporter {
            metrics.watch_exporter(exporter.counts())?;
        }
        let sink = sink.or_else(|| exporter.clone().map(|exporter| exporter as Arc<dyn SpanSink>));
        let subscriber = Registry::default()
            .with(TraceLayer::new(
                tracing.sample_rate,
                sink,
                Arc::clone(&masker),
                home,
            ))
            .with(LogLayer::new(
                log.format,
                Arc::clone(handle.output()),
                masker,
                &service,
            ))
            .with(handle.layer());
        let observer = Arc::new(TelemetryObserver::new(&metrics)?);
        let telemetry = Self {
            metrics,
            log: handle,
            observer,
            exporter,
        };
        Ok((telemetry, subscriber))
    }

    /// Sends the spans and writes the lines that wait, within `limit` for both, on any flavour of runtime. Spans that end
    /// later are dropped and counted. Lines that come later are written before the call that logs them returns, unless the
    /// output blocks: nobody flushes after this.
    ///
    /// Must run inside a Tokio runtime. Cancel safety: dropping the future leaves the flush going on by itself until
    /// `limit`.
    ///
    /// # Errors
    /// `Temporary` when spans or lines were lost, with their number in the context, or when the time did not suffice.
    pub async fn shutdown(&self, limit: Duration) -> Result<()> {
        let telemetry = self.clone();
        // A thread of its own, which real time governs: the runtime may have one thread, or a clock that stands.
        tokio::task::spawn_blocking(move || telemetry.stop(limit))
            .await
            .unwrap_or_else(|_| Err(Error::panicked("the flush of telemetry")))
    }

    fn stop(&self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        let exported = match &self.exporter {
            // The rest is for the log, which tells what became of the spans.
            Some(exporter) => exporter.stop(limit.mul_f64(0.8)),
            None => Ok(()),
        };
        let written = self.log.flush(limit.saturating_sub(started.elapsed()));
        if written.is_ok() {
            self.log.output().end();
        }
        exported.and(written)
    }

    /// What core and the adapters report to: counts observations, and knows the current trace.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::<TelemetryObserver>::clone(&self.observer)
    }

    /// The service's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Changes the log's level while the program runs.
    pub fn log_handle(&self) -> &LogHandle {
        &self.log
    }
}

fn exporter(
    tracing: &TracingConfig,
    service: &ServiceIdentity,
    mut options: ExportOptions,
    home: Home,
) -> Result<Option<Arc<Exporter>>> {
    let mut service = service.clone();
    if !tracing.service_name.is_empty() {
        service.name.clone_from(&tracing.service_name);
    }
    options.headers.extend(tracing.named_headers()?);
    Ok(Exporter::start(&tracing.endpoint, &service, options, home)?.map(Arc::new))
}
