//! HTTP: a whole service, and its server without the standard layers, beside a bare axum handler.
//!
//! Servers and the load are processes of their own, so that the processor time of each is known.

mod load;
mod process;
mod serve;

pub(crate) use self::{load::load, serve::serve};

use std::time::Duration;

use self::process::{Load, Server};
use crate::report::{Report, Target};

const PEERS: [&str; 2] = ["cqi", BARE];
const BARE: &str = "bare axum";

/// What is behind the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// cqi's server without its layers.
    Bare,
    /// A service with everything on.
    Full,
    /// A handler on axum, and nothing else.
    Axum,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Full, Self::Axum];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Full => "full",
            Self::Axum => "axum",
        }
    }
}

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    if report.has("cqi") {
        process::check_layers().await;
    }
    for mode in [Kind::Bare, Kind::Full] {
        for peer in report.peers(&PEERS) {
            let kind = if peer == "cqi" { mode } else { Kind::Axum };
            case(report, mode, peer, kind).await;
        }
        let name = mode.name();
        report.target(&format!("{name} c32"), 0, "op/s", Target::AtLeast(0.6, BARE));
    }
    report.target("full, at rest", 0, "MiB", Target::Below(30.0));
    report.note("bare: the server alone; full: a whole service, with request id, access log, metrics, trace ids, limits, recovery");
    report.note("beside both stands the same: one JSON handler on axum::serve, no layer");
    report.note(
        "cN: N connections, kept alive, from a process of one thread; cpu: the server's, user and kernel",
    );
    report.note("full, at rest: resident memory of the whole service before its first request, ports and servers included");
}

async fn case(report: &mut Report, mode: Kind, peer: &'static str, kind: Kind) {
    let name = mode.name();
    let server = Server::start(kind, None).await;
    if kind == Kind::Full {
        tokio::time::sleep(Duration::from_millis(500)).await; // at rest: what starting needed is given back
        report.figure("full, at rest", peer, 0, server.resident(), "MiB");
    }
    let load = Load {
        port: server.port,
        connections: 32,
    };
    load.run(report.count(10_000)).await;
    let (counted, cpu) = (server.counted().await, server.cpu());
    let total = report.count(100_000);
    let took = load.run(total).await;
    let cpu = server.cpu().saturating_sub(cpu);
    if let (Some(before), Some(after)) = (counted, server.counted().await) {
        assert_eq!(after - before, total, "requests that the metrics know");
    }
    let case = format!("{name} c32");
    report.figure(&case, peer, 0, total as f64 / took.seconds, "op/s");
    let micros = cpu.as_secs_f64() * 1e6 / total as f64;
    report.figure(&format!("{case} server cpu"), peer, 0, micros, "us/op");
    report.figure(&format!("{case} p99"), peer, 0, took.p99_us, "us");
    let one = Load {
        connections: 1,
        ..load
    };
    let took = one.run(report.count(20_000)).await;
    report.figure(&format!("{name} c1 mean"), peer, 0, took.mean_us, "us");
}
