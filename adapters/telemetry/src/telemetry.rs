//! Putting log, traces and metrics together.

use std::sync::Arc;

use cqi_core::{
    Error, Result,
    config::{LogConfig, MetricsConfig, TracingConfig},
    observe::Observer,
};
use tracing::Subscriber;
use tracing_subscriber::{layer::SubscriberExt, registry::Registry};

use crate::{
    log::{LogHandle, LogLayer, Output},
    metrics::Metrics,
    observer::TelemetryObserver,
    trace::{SpanSink, TraceLayer},
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

/// The telemetry of one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    metrics: Metrics,
    log: LogHandle,
    observer: Arc<TelemetryObserver>,
}

impl Telemetry {
    /// Makes the telemetry and installs log and traces for the whole process.
    ///
    /// # Errors
    /// As [`Telemetry::build`]; `Permanent`/`AlreadyExists` when the process has a `tracing` subscriber already.
    pub fn init(
        log: &LogConfig,
        metrics: &MetricsConfig,
        tracing: &TracingConfig,
        service: ServiceIdentity,
    ) -> Result<Self> {
        let (telemetry, subscriber) = Self::build(log, metrics, tracing, service, None)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|error| {
            Error::permanent("the process has a tracing subscriber already")
                .with_code(cqi_core::Code::AlreadyExists)
                .with_source(error)
        })?;
        Ok(telemetry)
    }

    /// Makes the telemetry without installing it: tests and benches use [`tracing::subscriber::with_default`].
    /// Recorded spans go to `sink` when they end.
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
        let output = Output::open(&log.output)?;
        Self::build_with_output(log, metrics, tracing, service, sink, output)
    }

    /// As [`Telemetry::build`], writing to `output` instead of the configured one.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong configuration or service name.
    #[allow(clippy::needless_pass_by_value)] // an identity is made for this call
    pub fn build_with_output(
        log: &LogConfig,
        metrics: &MetricsConfig,
        tracing: &TracingConfig,
        service: ServiceIdentity,
        sink: Option<Arc<dyn SpanSink>>,
        output: Output,
    ) -> Result<(Self, impl Subscriber + Send + Sync + use<>)> {
        if !(0.0..=1.0).contains(&tracing.sample_rate) {
            return Err(Error::invalid_input("tracing.sample_rate must be from 0 to 1"));
        }
        let metrics = Metrics::new(metrics, &service.name)?;
        let handle = LogHandle::new(log.level.parse()?, Arc::new(output));
        let subscriber = Registry::default()
            .with(TraceLayer::new(tracing.sample_rate, sink))
            .with(LogLayer::new(log.format, Arc::clone(handle.output()), &service))
            .with(handle.layer());
        let observer = Arc::new(TelemetryObserver::new(&metrics)?);
        Ok((
            Self {
                metrics,
                log: handle,
                observer,
            },
            subscriber,
        ))
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
