//! A log line of five fields beside tracing-subscriber's JSON. Each way is a process, as it is installed for all of it.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    log_line,
    measure::Clock,
    process::{ask, this_program},
    report::{Report, Target, say},
};

/// How many lines are logged at a stretch: fewer than the buffer of the log has room for.
const BURST: usize = 5_000;
const PEERS: [&str; 2] = ["cqi", "tracing-subscriber"];

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    let bench = this_program();
    let counting = bench.with_file_name("bench-allocations");
    for peer in report.peers(&PEERS) {
        check(&bench, peer).await;
        let total = report.count(300_000).to_string();
        let told = ask(&bench, &["log-line", peer, "/dev/null", &total]).await;
        for (case, nanos) in ["json line", "json line cpu", "json line written"]
            .into_iter()
            .zip(told)
        {
            report.figure(case, peer, 0, nanos, "ns/op");
        }
        if counting.exists() {
            let allocations = ask(&counting, &[peer]).await;
            report.figure("json line allocs", peer, 0, allocations[0], "allocs/op");
        } else {
            report.note("allocations were not counted: the program bench-allocations is not built");
        }
    }
    report.target("json line", 0, "ns/op", Target::AtMost(0.7, "tracing-subscriber"));
    report.target("json line allocs", 0, "allocs/op", Target::Below(0.0));
    report.note("5 fields beside time, level and message, to /dev/null");
    report.note("json line: the caller's time; cqi's lines are written by a thread, tracing-subscriber's by the caller, one by one");
    report.note("cpu: of the whole process; written: until the output has the last line; no line is lost");
}

/// Writes the lines and prints the nanoseconds that one took the caller, all threads, and until it was written.
pub(crate) fn lines(peer: &str, output: &str, total: usize) {
    let log = log_line::install(peer, output).expect("a known peer");
    (0..total / 10).for_each(log_line::line);
    log.flush();
    let (all, mut calling) = (Clock::start(), Duration::ZERO);
    for first in (0..total).step_by(BURST) {
        let clock = Clock::start();
        (first..total.min(first + BURST)).for_each(log_line::line);
        calling += clock.stop().wall;
        log.flush();
    }
    let all = all.stop();
    let [calling, cpu, wall] = [calling, all.cpu, all.wall].map(|took| took.as_nanos() as f64 / total as f64);
    say(format_args!("{calling} {cpu} {wall}"));
}

/// Checks that the peer writes what is measured.
async fn check(bench: &Path, peer: &str) {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let path = folder.path().join("log");
    let output = path.to_str().expect("a path in UTF-8");
    ask(bench, &["log-line", peer, output, "50"]).await;
    let log = fs::read_to_string(&path).expect("the log");
    assert_eq!(log.lines().count(), 55, "a line for each call");
    let line: Value = serde_json::from_str(log.lines().last().unwrap_or_default()).expect("JSON");
    for (field, value) in [
        ("user", Value::from(49)),
        ("method", "GET".into()),
        ("path", "/api/v1/users".into()),
        ("elapsed_ms", 1.25.into()),
        ("ok", true.into()),
        ("message", "request done".into()),
    ] {
        assert_eq!(line[field], value, "{peer}: {field}");
    }
    assert!(line["timestamp"].is_string() && line["level"].is_string());
}
