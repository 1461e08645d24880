//! Counters and histograms beside those of the `prometheus` crate.

use std::hint::black_box;

use cqi::telemetry::{Metrics, metrics::SECONDS};
use cqi_core::config::MetricsConfig;
use prometheus::{CounterVec, HistogramOpts, HistogramVec, Opts};

use crate::{
    measure::Clock,
    report::{Report, Target},
};

const BARE: &str = "prometheus";
const LABELS: [&str; 3] = ["method", "route", "status"];
const VALUES: [&str; 3] = ["GET", "/users/{id}", "200"];

/// What a bound and a looked-up update of cqi may take, in nanoseconds.
const HELD: f64 = 30.0;
const LOOKUP: f64 = 150.0;

pub(super) fn round(report: &mut Report) {
    let metrics = Metrics::new(&MetricsConfig::default(), "bench").expect("a valid name");
    counters(report, &metrics);
    histograms(report, &metrics);
    report.note(
        "counter, histogram: 3 labels; held: of a bound set of values; lookup: found by their text; 13 buckets",
    );
}

fn counters(report: &mut Report, metrics: &Metrics) {
    let cqi = metrics
        .new_counter("bench", "calls_total", "Calls.", &LABELS)
        .expect("a new counter");
    let held = cqi.with(&VALUES).expect("three values");
    let bare = CounterVec::new(Opts::new("calls_total", "Calls."), &LABELS).expect("a new counter");
    let bare_held = bare.with_label_values(&VALUES);
    let lookup = || bare.with_label_values(&black_box(VALUES)).inc();
    let mut counted = [0; 2];
    for (case, threads) in [
        ("counter lookup+inc", 1),
        ("counter lookup+inc 2 threads", 2),
        ("counter held inc", 1),
    ] {
        let is_held = case == "counter held inc";
        for peer in report.peers(&["cqi", BARE]) {
            let total = report.count(2_000_000);
            let nanos = match (peer, is_held) {
                ("cqi", true) => threaded(threads, total, || held.inc()),
                ("cqi", false) => threaded(threads, total, || cqi.inc(&black_box(VALUES))),
                (_, true) => threaded(threads, total, || bare_held.inc()),
                (_, false) => threaded(threads, total, lookup),
            };
            counted[usize::from(peer == "cqi")] += calls(threads, total);
            report.figure(case, peer, 0, nanos, "ns/op");
        }
        if threads == 1 {
            target(report, case, is_held);
        }
    }
    assert_eq!(
        [bare_held.get(), held.get()],
        counted.map(|count| count as f64),
        "calls not counted"
    );
}

fn histograms(report: &mut Report, metrics: &Metrics) {
    const TOOK: f64 = 0.004;
    let cqi = metrics
        .new_histogram("bench", "seconds", "Seconds.", &LABELS, SECONDS)
        .expect("a new histogram");
    let held = cqi.with(&VALUES).expect("three values");
    let opts = HistogramOpts::new("seconds", "Seconds.").buckets(SECONDS.to_vec());
    let bare = HistogramVec::new(opts, &LABELS).expect("a new histogram");
    let bare_held = bare.with_label_values(&VALUES);
    let lookup = || {
        bare.with_label_values(&black_box(VALUES))
            .observe(black_box(TOOK))
    };
    let mut counted = [0; 2];
    for (case, is_held) in [
        ("histogram lookup+observe", false),
        ("histogram held observe", true),
    ] {
        for peer in report.peers(&["cqi", BARE]) {
            let total = report.count(2_000_000);
            let nanos = match (peer, is_held) {
                ("cqi", true) => threaded(1, total, || held.observe(black_box(TOOK))),
                ("cqi", false) => threaded(1, total, || cqi.observe(&black_box(VALUES), black_box(TOOK))),
                (_, true) => threaded(1, total, || bare_held.observe(black_box(TOOK))),
                (_, false) => threaded(1, total, lookup),
            };
            counted[usize::from(peer == "cqi")] += calls(1, total) as u64;
            report.figure(case, peer, 0, nanos, "ns/op");
        }
        target(report, case, is_held);
    }
    let seen = [bare_held.get_sample_count(), held.count()];
    assert_eq!(seen, counted, "values not counted");
}

fn target(report: &mut Report, case: &str, is_held: bool) {
    let most = if is_held { HELD } else { LOOKUP };
    report.target(case, 0, "ns/op", Target::Below(most));
}

/// How many calls [`threaded`] makes, warm-up included.
fn calls(threads: usize, total: usize) -> usize {
    total / 10 + total * threads
}

/// Nanoseconds per call, when each of `threads` threads makes `total` calls.
fn threaded(threads: usize, total: usize, call: impl Fn() + Sync) -> f64 {
    (0..total / 10).for_each(|_| call());
    let clock = Clock::start();
    if threads == 1 {
        (0..total).for_each(|_| call());
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..total).for_each(|_| call()));
            }
        });
    }
    clock.stop().wall.as_nanos() as f64 / total as f64
}
