//! HTTP: a whole service, and its server with some or none of the layers, beside a bare axum handler.
//!
//! Servers, collector and load are processes of their own, so that the processor time of each is known.

mod load;

pub(crate) use self::load::load;

use std::{fs, time::Duration};

use crate::{
    process::{Protocol, Requests, Served, Server, nobody},
    report::{Report, Target},
    serve::Kind,
};

const PEERS: [&str; 2] = ["cqi", BARE];
const BARE: &str = "bare axum";
/// A whole service whose collector takes what it sends.
const ALIVE: &str = "collector alive";

/// The layers, each with those above it.
const LAYERS: [(Kind, &str); 7] = [
    (Kind::Bare, "layers: the server alone"),
    (Kind::Limits, "+ limits, recovery"),
    (Kind::Ids, "+ request and trace ids"),
    (Kind::Log, "+ access log"),
    (Kind::Metrics, "+ metrics"),
    (Kind::Key, "+ API key"),
    (Kind::Export, "+ trace export"),
];

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    let collector = Server::start(Kind::Collector, 0, None).await;
    if report.has("cqi") {
        check_layers(collector.port).await;
    }
    for mode in [Kind::Bare, Kind::Full] {
        for peer in report.peers(&PEERS) {
            let kind = if peer == "cqi" { mode } else { Kind::Axum };
            case(report, mode, peer, kind, collector.port).await;
        }
        let name = mode.name();
        report.target(&format!("{name} c32"), 0, "op/s", Target::AtLeast(0.6, BARE));
        let cpu = Target::Over(20.0, BARE);
        report.target(&format!("{name} c32 server cpu"), 0, "us/op", cpu);
    }
    report.target("full, at rest", 0, "MiB", Target::Below(30.0));
    if report.has("cqi") {
        dead_collector(report, collector.port).await;
    }
    layers(report, collector.port).await;
    report.note("bare: the server alone; full: a configured service with request id, access log, metrics, API key, limits, recovery, and every trace sent to a collector");
    report.note("beside both stands the same: one JSON handler on axum::serve, no layer, asked the same");
    report.note(
        "cN: N connections, kept alive, from a process of one thread; cpu: the server's, user and kernel",
    );
    report.note(
        "full, at rest: resident memory of the whole service before its load, ports and servers included",
    );
    report.note("dead collector: nobody listens on its port; beside it the same with one that does");
    report.note("layers: c32; + limits, recovery are layers on the server without any; from the ids on it is the standard layer, with security headers, where the log's level and metrics are off until they are named and no trace is recorded before the last row");
}

async fn case(report: &mut Report, mode: Kind, peer: &'static str, kind: Kind, collector: u16) {
    let name = mode.name();
    let server = Server::start(kind, collector, None).await;
    if kind == Kind::Full {
        tokio::time::sleep(Duration::from_millis(500)).await; // at rest: what starting needed is given back
        report.figure("full, at rest", peer, 0, server.resident(), "MiB");
    }
    let total = report.count(100_000);
    let took = at_32(report, &server, total).await;
    report.figure(&format!("{name} c32"), peer, 0, took.rate(total), "op/s");
    report.figure(&format!("{name} c32 server cpu"), peer, 0, took.cpu_us, "us/op");
    report.figure(&format!("{name} c32 p99"), peer, 0, took.p99_us, "us");
    if kind == Kind::Full {
        let lost = server.spans_lost().await;
        report.figure("full c32 spans lost", peer, 0, lost, "%");
    }
    let one = requests(&server, 1, report.count(20_000)).run().await;
    report.figure(&format!("{name} c1 mean"), peer, 0, one.mean_us, "us");
}

/// A whole service that cannot send its traces, beside one that can.
async fn dead_collector(report: &mut Report, collector: u16) {
    const CASE: &str = "dead collector c32";
    for peer in report.peers(&["cqi", ALIVE]) {
        let collector = if peer == ALIVE { collector } else { nobody() };
        let server = Server::start(Kind::Full, collector, None).await;
        let total = report.count(100_000);
        let took = at_32(report, &server, total).await;
        report.figure(CASE, peer, 0, took.rate(total), "op/s");
        report.figure(&format!("{CASE} p99"), peer, 0, took.p99_us, "us");
        let resident = server.resident();
        report.figure("dead collector, after it", peer, 0, resident, "MiB");
    }
    report.target(CASE, 0, "op/s", Target::AtLeast(0.95, ALIVE));
    report.target(&format!("{CASE} p99"), 0, "us", Target::AtMost(1.1, ALIVE));
    report.target("dead collector, after it", 0, "MiB", Target::Over(4.0, ALIVE));
}

async fn layers(report: &mut Report, collector: u16) {
    let mut bare = None;
    let mut rows = Vec::new();
    // Beginning with another one in each round, as peers do.
    let mut order: Vec<_> = LAYERS.iter().map(|(kind, _)| *kind).collect();
    order.push(Kind::Axum);
    order.rotate_left(report.round() % LAYERS.len());
    for kind in order {
        let peer = if kind == Kind::Axum { BARE } else { "cqi" };
        if !report.has(peer) {
            continue;
        }
        let server = Server::start(kind, collector, None).await;
        let total = report.count(100_000);
        let took = at_32(report, &server, total).await;
        let figures = (took.rate(total), took.cpu_us);
        if kind == Kind::Axum {
            bare = Some(figures);
        } else {
            rows.push((kind, figures));
        }
    }
    for (kind, case) in LAYERS {
        let own = rows.iter().find(|row| row.0 == kind).map(|row| ("cqi", row.1));
        for (peer, (rate, cpu)) in own.into_iter().chain(bare.map(|bare| (BARE, bare))) {
            report.figure(case, peer, 0, rate, "op/s");
            report.figure(&format!("{case}, server cpu"), peer, 0, cpu, "us/op");
        }
    }
}

/// Warms the server up, and measures it under 32 connections.
async fn at_32(report: &Report, server: &Server, total: usize) -> Served {
    let load = requests(server, 32, total);
    load.total(report.count(10_000)).run().await;
    server.under(load).await
}

fn requests(server: &Server, connections: usize, total: usize) -> Requests {
    Requests {
        protocol: Protocol::Http,
        port: server.port,
        connections,
        callers: connections,
        total,
    }
}

/// Checks that a whole service does what it is measured with: request id, access log, metrics, recovery.
async fn check_layers(collector: u16) {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let log = folder.path().join("access.log");
    let server = Server::start(Kind::Full, collector, Some(&log)).await;
    let lines = async |more: usize| {
        let mut count = 0;
        // The log is written by a thread of its own.
        for _ in 0..100 {
            let log = fs::read_to_string(&log).expect("the log");
            count = log.lines().filter(|line| line.contains("/hello")).count();
            if count >= more {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        count
    };
    let (counted, logged) = (server.counted().await, lines(1).await);
    let refused = server.get_as("nobody", "/hello").await.expect("an answer");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let (counted, logged) = (counted.map(|before| before + 1), logged + 1);
    let answer = server.get("/hello").await.expect("an answer").to_lowercase();
    assert!(answer.contains("x-request-id: "), "no request id: {answer}");
    let panicked = server.get("/panic").await.expect("an answer");
    assert!(panicked.starts_with("HTTP/1.1 500"), "{panicked}");
    assert_eq!(
        server.counted().await,
        counted.map(|before| before + 1),
        "not counted"
    );
    assert_eq!(lines(logged + 1).await, logged + 1, "not logged once");
}
