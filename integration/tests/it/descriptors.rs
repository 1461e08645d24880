//! F-NET-05: more clients than a process may have file descriptors.

use std::process::Command;

use futures::future::join_all;

use crate::support::{Client, Process, ask, until};

const CLIENTS: usize = 60;
const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n";
const PAUSING: &str = "cannot accept, pausing";

#[tokio::test]
async fn f_net_05_a_server_without_descriptors_pauses_serves_whom_it_has_and_recovers() {
    let service = Process::quickstart(&[]).await;
    let mut first = Client::connect(service.http()).await.unwrap();
    assert_eq!(first.request(LIVE).await.unwrap().status, 200);
    limit(&service, descriptors(&service) + 10);

    // The kernel takes them, and the server cannot take all of them from it.
    let connecting = (0..CLIENTS).map(|_| Client::connect(service.http()));
    let mut waiting = Vec::new();
    for client in join_all(connecting).await {
        let mut client = client.unwrap();
        client.send(LIVE).await.unwrap();
        waiting.push(client);
    }
    let pauses = || {
        let log = service.log();
        log.iter().filter(|line| line["message"] == PAUSING).count()
    };
    until("a longer pause", || {
        let count = pauses();
        if count >= 5 { Ok(()) } else { Err(count) }
    })
    .await;
    // It does not try all the time: the pauses grow to a second.
    assert!(pauses() < 20, "{} attempts", pauses());
    assert_eq!(first.request(LIVE).await.unwrap().status, 200);

    // Whoever leaves makes room for the next, until all have had their answer.
    for mut client in waiting {
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    assert_eq!(ask(service.http(), LIVE).await.status, 200);
    assert_eq!(first.request(LIVE).await.unwrap().status, 200);
    service.stop().await;
}

fn descriptors(service: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", service.pid()))
        .unwrap()
        .count()
}

/// Changes how many descriptors a running process may have.
fn limit(service: &Process, most: usize) {
    let output = Command::new("prlimit")
        .args(["--pid", &service.pid().to_string()])
        .arg(format!("--nofile={most}:{most}"))
        .output()
        .expect("prlimit, of util-linux");
    assert!(output.status.success(), "{output:?}");
}
