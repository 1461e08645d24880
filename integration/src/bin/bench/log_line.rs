//! One log line of five fields, by either way to write it.

use std::fs::{File, OpenOptions};

use cqi::{
    config::{LogConfig, MetricsConfig, TracingConfig},
    telemetry::{ServiceIdentity, Telemetry},
};

/// Installs the peer's way to write lines to `output`, a file, for this process. Says whether it knows the peer.
pub(crate) fn install(peer: &str, output: &str) -> bool {
    match peer {
        "cqi" => {
            let config = LogConfig {
                output: output.to_owned(),
                ..LogConfig::default()
            };
            let (metrics, traces) = (MetricsConfig::default(), TracingConfig::default());
            let service = ServiceIdentity::new("bench");
            Telemetry::init(&config, &metrics, &traces, service).expect("the first subscriber");
            true
        }
        "tracing-subscriber" => {
            let json = tracing_subscriber::fmt()
                .json()
                .flatten_event(true)
                .with_target(false);
            json.with_writer(std::sync::Mutex::new(file(output))).init();
            true
        }
        _ => false,
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
