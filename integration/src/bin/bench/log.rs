//! A log line of five fields beside tracing-subscriber's JSON. Each way is a process, as it is installed for all of it.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    log_line,
    measure::Clock,
    report::{Report, Target, say},
};

const PEERS: [&str; 2] = ["cqi", "tracing-subscriber"];

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    let bench = std::env::current_exe().expect("the path of this program");
    let counting = bench.with_file_name("bench-allocations");
    for peer in report.peers(&PEERS) {
        check(&bench, peer).await;
        let total = report.count(300_000).to_string();
        let nanos = ask(&bench, &["log-line", peer, "/dev/null", &total]).await;
        report.figure("json line", peer, 0, nanos, "ns/op");
        if counting.exists() {
            let allocations = ask(&counting, &[peer]).await;
            report.figure("json line allocs", peer, 0, allocations, "allocs/op");
        } else {
            report.note("allocations were not counted: the program bench-allocations is not built");
        }
    }
    report.target("json line", 0, "ns/op", Target::AtMost(0.7, "tracing-subscriber"));
    report.target("json line allocs", 0, "allocs/op", Target::Below(0.0));
    report.note("5 fields beside time, level and message, one write per line, to /dev/null");
}

/// Writes the lines and prints the nanoseconds that one took.
pub(crate) fn lines(peer: &str, output: &str, total: usize) {
    assert!(log_line::install(peer, output), "unknown peer {peer}");
    (0..total / 10).for_each(log_line::line);
    let clock = Clock::start();
    (0..total).for_each(log_line::line);
    say(clock.stop().wall.as_nanos() as f64 / total as f64);
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

/// The number that a program prints.
async fn ask(program: &Path, args: &[&str]) -> f64 {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let output = command.output().await.expect("a program beside this one");
    assert!(output.status.success(), "{args:?} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("a number")
}
