//! What a service costs that does nothing.

use crate::support::{Process, ask, position, post};

/// In KiB.
const LIMIT: u64 = 30 * 1024;

/// The memory of a service at rest. A build without optimisation is larger: there it is only printed.
#[tokio::test]
async fn a_service_at_rest_takes_less_than_30_mib() {
    let service = Process::quickstart(&[]).await;
    ask(service.http(), post(&position("p", "a", 1))).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let (memory, threads) = (value("VmRSS:"), value("Threads:"));
    println!("a service at rest: {memory} KiB resident, {threads} threads");
    if !cfg!(debug_assertions) {
        assert!(memory < LIMIT, "{memory} KiB resident; the limit is {LIMIT}");
    }
    service.stop().await;
}
