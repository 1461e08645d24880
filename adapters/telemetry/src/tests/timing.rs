//! What the hot paths cost: `cargo test -p cqi-telemetry --release -- --ignored --nocapture timing`. It checks nothing; the
//! benchmarks in `integration` do.

use cqi_core::config::LogFormat;
use tracing::{info, info_span};

use super::Rig;

const ROUNDS: u32 = 200_000;

/// Prints the processor time of this thread for one round.
fn time(what: &str, mut work: impl FnMut()) {
    (0..ROUNDS / 10).for_each(|_| work());
    let started = on_cpu();
    (0..ROUNDS).for_each(|_| work());
    println!("{what}: {} ns", (on_cpu() - started) / u64::from(ROUNDS));
}

/// Nanoseconds this thread has run.
fn on_cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "prints timings"]
fn timing() {
    let sampled = Rig::with("info", LogFormat::Json, 1.0);
    let rig = Rig::with("info", LogFormat::Json, 0.0);
    let observer = rig.telemetry.observer();
    let metrics = rig.telemetry.metrics();
    let labels = ["GET", "/users/{id}", "200"];
    let counter = metrics
        .new_counter("a", "calls_total", "h", &["method", "route", "status"])
        .unwrap();
    let held = counter.with(&labels).unwrap();
    let seconds = crate::metrics::SECONDS;
    let histogram = metrics
        .new_histogram("a", "call_seconds", "h", &["method", "route", "status"], seconds)
        .unwrap();
    let held_histogram = histogram.with(&labels).unwrap();
    time("counter, held", || held.inc());
    time("counter, looked up", || counter.inc(&labels));
    time("histogram, held", || held_histogram.observe(0.02));
    time("histogram, looked up", || histogram.observe(&labels, 0.02));
    rig.run(|| {
        time("line", || {
            info!(
                user = 17,
                method = "GET",
                path = "/api/v1/users",
                elapsed_ms = 1.25,
                ok = true,
                "request done"
            );
        });
        println!("dropped {}", rig.telemetry.log_handle().dropped());
        let request = || {
            info_span!(
                "request",
                method = "GET",
                path = "/a/17",
                route = "/a/{id}",
                request_id = "r1",
                status_code = 200
            )
        };
        time("span of a trace that is not recorded", || {
            request().in_scope(|| ())
        });
        request().in_scope(|| time("asking whether it is", || assert!(!observer.records_trace())));
    });
    sampled.run(|| {
        let request = || {
            info_span!(
                "request",
                method = "GET",
                path = "/a/17",
                route = "/a/{id}",
                request_id = "r1",
                status_code = 200
            )
        };
        time("span of a recorded trace", || request().in_scope(|| ()));
    });
}
