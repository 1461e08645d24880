//! gRPC: a unary call to a whole service, beside bare tonic.

mod echo;
mod load;

pub(crate) use self::{echo::Echo, load::load};

use crate::{
    process::{Protocol, Requests, Server},
    report::{Report, Target},
    serve::Kind,
};

const BARE: &str = "bare tonic";
const CASE: &str = "full x32";

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    let collector = Server::start(Kind::Collector, 0, None).await;
    for peer in report.peers(&["cqi", BARE]) {
        let kind = if peer == "cqi" { Kind::Grpc } else { Kind::Tonic };
        let server = Server::start(kind, collector.port, None).await;
        let total = report.count(60_000);
        let load = Requests {
            protocol: Protocol::Grpc,
            port: server.port,
            connections: 4,
            callers: 32,
            total,
        };
        load.total(report.count(6_000)).run().await;
        let took = server.under(load).await;
        report.figure(CASE, peer, 0, took.rate(total), "op/s");
        report.figure(&format!("{CASE} server cpu"), peer, 0, took.cpu_us, "us/op");
        report.figure(&format!("{CASE} p99"), peer, 0, took.p99_us, "us");
        if kind == Kind::Grpc {
            let lost = server.spans_lost().await;
            report.figure(&format!("{CASE} spans lost"), peer, 0, lost, "%");
        }
        let one = Requests {
            connections: 1,
            callers: 1,
            total: report.count(10_000),
            ..load
        };
        report.figure("full x1 mean", peer, 0, one.run().await.mean_us, "us");
    }
    report.target(CASE, 0, "op/s", Target::AtLeast(0.6, BARE));
    report.target(
        &format!("{CASE} server cpu"),
        0,
        "us/op",
        Target::Over(20.0, BARE),
    );
    report.note("full: a configured service with request id, log, metrics, API key, limits, recovery, and every trace sent to a collector");
    report.note("beside it stands the same service on tonic's own server, no layer");
    report.note("xN: N callers, over 4 connections or 1, from a process of one thread, which may limit the rate; cpu: the server's, user and kernel");
}
