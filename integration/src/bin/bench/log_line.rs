//! One log line of five fields, by either way to write it.

use std::{
    fs::{File, OpenOptions},
    time::Duration,
};

use cqi::{
    config::{LogConfig, MetricsConfig, TracingConfig},
    telemetry::{ServiceIdentity, Telemetry},
};

/// A way to write lines, which is installed.
pub(crate) struct Log(Option<Telemetry>);

impl Log {
    /// Waits until everything is written; nothing may be lost.
    pub(crate) fn flush(&self) {
        if let Some(telemetry) = &self.0 {
            let log = telemetry.log_handle();
            log.flush(Duration::from_secs(10))
                .expect("an output that takes lines");
            assert_eq!(log.dropped(), 0, "lines were lost");
        }
    }
}

/// Installs the peer's way to write lines to `output`, a file, for this process; `None` for a peer it does not know.
pub(crate) fn install(peer: &str, output: &str) -> Option<Log> {
    match peer {
        "cqi" => {
            let config = LogConfig {
                output: output.to_owned(),
                ..LogConfig::default()
            };
            let (metrics, traces) = (MetricsConfig::default(), TracingConfig::default());
            let service = ServiceIdentity::new("bench");
            let telemetry = Telemetry::init(&config, &metrics, &traces, service);
            Some(Log(Some(telemetry.expect("the first subscriber"))))
        }
        "tracing-subscriber" => {
            let json = tracing_subscriber::fmt()
                .json()
                .flatten_event(true)
                .with_target(false);
            json.with_writer(std::sync::Mutex::new(file(output))).init();
            Some(Log(None))
        }
        _ => None,
    }
}

fn file(path: &str) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.expect("a file to write to")
}

/// Writes the line.
pub(crate) fn line(user: usize) {
    tracing::info!(
        user,
        method = "GET",
        path = "/api/v1/users",
        elapsed_ms = 1.25,
        ok = true,
        "request done"
    );
}
