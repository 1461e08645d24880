//! The promises of the crate as a whole; its parts have their own tests.

mod export;
mod exposition;
mod logs;
mod metrics;
mod outputs;
mod ports;
mod redaction;
mod timing;
mod traces;

use std::{
    io::Read,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqi_core::config::{LogConfig, LogFormat, MetricsConfig, TracingConfig};
use serde_json::Value;
use tracing::Dispatch;

use crate::{FinishedSpan, ServiceIdentity, SpanSink, Telemetry};

/// Telemetry that is not installed, and what it has written and recorded.
struct Rig {
    telemetry: Telemetry,
    dispatch: Dispatch,
    file: tempfile::NamedTempFile,
    spans: Arc<Recorder>,
}

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<FinishedSpan>>);

impl SpanSink for Recorder {
    fn take(&self, span: FinishedSpan) {
        self.0.lock().unwrap().push(span);
    }
}

impl Rig {
    fn new(level: &str) -> Self {
        Self::with(level, LogFormat::Json, 1.0)
    }

    fn with(level: &str, format: LogFormat, sample_rate: f64) -> Self {
        let log = LogConfig {
            level: level.into(),
            format,
            ..LogConfig::default()
        };
        Self::configured(log, sample_rate)
    }

    fn configured(mut log: LogConfig, sample_rate: f64) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        log.output = file.path().to_str().unwrap().to_owned();
        let tracing = TracingConfig {
            sample_rate,
            ..TracingConfig::default()
        };
        let service = ServiceIdentity::new("my-shop")
            .with_version("1.2")
            .with_instance("a-1");
        let spans = Arc::new(Recorder::default());
        let sink: Arc<dyn SpanSink> = Arc::<Recorder>::clone(&spans);
        let (telemetry, subscriber) =
            Telemetry::build(&log, &MetricsConfig::default(), &tracing, service, Some(sink)).unwrap();
        Self {
            telemetry,
            dispatch: Dispatch::new(subscriber),
            file,
            spans,
        }
    }

    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, work)
    }

    fn text(&self) -> String {
        self.telemetry
            .log_handle()
            .flush(Duration::from_secs(20))
            .unwrap();
        let mut text = String::new();
        self.file.reopen().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn spans(&self) -> Vec<FinishedSpan> {
        self.spans.0.lock().unwrap().clone()
    }
}
