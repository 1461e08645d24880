//! Outputs that fail, and what the one who logs feels of it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use cqi_core::config::{LogConfig, LogFormat, MetricsConfig, TracingConfig};
use tokio::time::Instant;
use tracing::{Dispatch, info, info_span};

use super::{Rig, export::until};
use crate::{ServiceIdentity, Telemetry, log::Output};

const LIMIT: Duration = Duration::from_secs(20);

struct Logging {
    telemetry: Telemetry,
    dispatch: Dispatch,
}

impl Logging {
    fn to(file: impl Into<OwnedFd>) -> Self {
        let output = Output::to(File::from(file.into()), 64 << 10).unwrap();
        let (log, metrics, traces) = (
            LogConfig::default(),
            MetricsConfig::default(),
            TracingConfig::default(),
        );
        let service = ServiceIdentity::new("shop");
        let built = Telemetry::build_with_output(&log, &metrics, &traces, service, None, output);
        let (telemetry, subscriber) = built.unwrap();
        Self {
            telemetry,
            dispatch: Dispatch::new(subscriber),
        }
    }

    /// Logs so many lines.
    fn say(&self, lines: usize) {
        tracing::dispatcher::with_default(&self.dispatch, || (0..lines).for_each(|line| info!(line, "said")));
    }

    fn flush(&self, limit: Duration) -> bool {
        self.telemetry.log_handle().flush(limit).is_ok()
    }

    fn lost(&self) -> u64 {
        let dropped = self.telemetry.log_handle().dropped();
        let metric = format!("shop_log_lines_dropped_total {dropped}");
        let text = self.telemetry.metrics().render();
        assert!(
            text.lines().any(|line| line == metric),
            "{metric} is not in {text}"
        );
        dropped
    }
}

#[test]
fn l_10_a_full_disk_and_a_closed_pipe_lose_lines_that_are_counted() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = io::pipe().unwrap();
    drop(reader);
    for file in [OwnedFd::from(full), OwnedFd::from(closed)] {
        let log = Logging::to(file);
        log.say(3);
        assert!(log.flush(LIMIT));
        log.say(2);
        assert!(log.flush(LIMIT));
        assert_eq!(log.lost(), 5);
    }
}

#[tokio::test]
async fn l_10_ml_log_10_a_pipe_that_nobody_reads_blocks_nobody_and_what_was_lost_is_told() {
    const LINES: usize = 50_000;
    let (reader, writer) = io::pipe().unwrap();
    blocked(reader.into(), writer.into(), LINES).await;
}

#[tokio::test]
async fn l_10_an_output_that_somebody_made_non_blocking_is_waited_for() {
    let (reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    blocked(reader.into(), writer.into(), 50_000).await;
}

async fn blocked(reader: OwnedFd, writer: OwnedFd, lines: usize) {
    let log = Logging::to(writer);
    let started = Instant::now();
    log.say(lines);
    assert!(started.elapsed() < LIMIT, "nobody waits for the output");
    assert!(
        !log.flush(Duration::from_millis(50)),
        "the flush ends by its deadline"
    );
    let lost = log.lost();
    assert!(lost > 0);
    // Somebody reads again, until the log ends.
    let read = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&read);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(File::from(reader)).lines() {
            into.lock().unwrap().push(line.unwrap());
        }
    });
    let count = |text: &str| {
        let read = read.lock().unwrap();
        read.iter().filter(|line| line.contains(text)).count()
    };
    until(|| count("log lines were lost\",\"lines_lost\":") == 1).await;
    assert!(log.flush(LIMIT));
    assert_eq!(log.lost(), lost, "nothing more");
    drop(log);
    reader.join().unwrap();
    assert_eq!(count("\"said\"") as u64 + lost, lines as u64);
    assert_eq!(read.lock().unwrap().len() as u64 + lost, lines as u64 + 1);
}

#[tokio::test]
async fn a_shutdown_ends_by_its_deadline_though_the_output_is_blocked() {
    let (_reader, writer) = io::pipe().unwrap();
    let log = Logging::to(writer);
    log.say(2000);
    let started = Instant::now();
    let error = log
        .telemetry
        .shutdown(Duration::from_millis(100))
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(
        error.is_temporary() && error.to_string().contains("log.flush"),
        "{error}"
    );
}

#[tokio::test]
async fn a_shutdown_writes_what_waits_and_each_later_line_at_once() {
    let rig = Rig::new("info");
    rig.run(|| (0..1000).for_each(|_| info!("before")));
    rig.telemetry.shutdown(LIMIT).await.unwrap();
    let written = std::fs::read_to_string(rig.file.path()).unwrap();
    assert_eq!(written.lines().count(), 1000);
    for later in 1..=20 {
        rig.run(|| info!("after"));
        let written = std::fs::read_to_string(rig.file.path()).unwrap();
        assert_eq!(written.lines().count(), 1000 + later);
    }
}

#[tokio::test]
async fn after_a_shutdown_an_output_that_blocks_is_not_waited_for_again_and_again() {
    let (_reader, writer) = io::pipe().unwrap();
    let log = Logging::to(writer);
    log.telemetry.shutdown(LIMIT).await.unwrap();
    let started = Instant::now();
    log.say(10_000);
    assert!(started.elapsed() < LIMIT);
    assert!(log.lost() > 0);
}

#[test]
fn a_line_larger_than_the_buffer_is_lost_alone() {
    let (reader, writer) = io::pipe().unwrap();
    let log = Logging::to(writer);
    tracing::dispatcher::with_default(&log.dispatch, || info!(huge = "x".repeat(70_000), "huge"));
    log.say(1);
    assert!(log.flush(LIMIT));
    assert_eq!(log.lost(), 1);
    drop(log);
    let lines = BufReader::new(reader).lines().map(|line| line.unwrap());
    assert_eq!(lines.filter(|line| line.contains("\"said\"")).count(), 1);
}

#[test]
fn the_configuration_says_how_much_may_wait() {
    for (buffer, lost) in [(4 << 20, 0), (64 << 10, 1)] {
        let log = LogConfig {
            buffer,
            ..LogConfig::default()
        };
        let rig = Rig::configured(log, 1.0);
        rig.run(|| info!(huge = "x".repeat(70_000), "huge"));
        rig.text();
        assert_eq!(rig.telemetry.log_handle().dropped(), lost, "{buffer}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let error = Output::open("/nowhere/log").unwrap_err();
    assert!(
        error.is_invalid_input() && error.to_string().contains("/nowhere/log"),
        "{error}"
    );
}

#[tokio::test]
async fn l_11_a_level_for_a_time_goes_back_by_itself() {
    let rig = Rig::new("warn");
    let handle = rig.telemetry.log_handle();
    let debug = || rig.run(|| tracing::enabled!(tracing::Level::DEBUG));
    assert!(handle.set_for("loud", LIMIT).unwrap_err().is_invalid_input());
    handle.set_for("debug", Duration::from_secs(3600)).unwrap();
    assert!(debug());
    handle.set_for("trace", Duration::from_millis(20)).unwrap();
    until(|| !debug()).await;
    assert!(
        rig.run(|| tracing::enabled!(tracing::Level::WARN)),
        "the first level is back"
    );
    handle.set_for("debug", Duration::from_millis(1)).unwrap();
    handle.set_level("trace").unwrap();
    rig.run(|| info!("one"));
    assert_eq!(rig.lines().len(), 1);
    assert!(debug(), "a level that was set stays");
}

#[test]
fn log_11_perf_2_a_line_allocates_nothing() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let rig = Rig::with("info", format, 1.0);
        let error = io::Error::other("refused");
        let error: &(dyn std::error::Error + 'static) = &error;
        let lines = || {
            for user in 0..100_u64 {
                info!(
                    user,
                    method = "GET",
                    path = "/a\n",
                    elapsed_ms = 1.25,
                    ok = true,
                    "request done"
                );
                info!(error, debug = ?Some("x"), display = %user, "a {} message", "longer");
            }
        };
        rig.run(|| {
            let span = info_span!("request", request_id = "r1", n = 1);
            let _inside = span.enter();
            lines();
            let counted = allocation_counter::measure(lines);
            assert_eq!((counted.count_total, counted.count_current), (0, 0));
        });
        assert_eq!(rig.telemetry.log_handle().dropped(), 0);
        assert_eq!(rig.text().lines().count(), 400);
    }
}
