//! SIGTERM while clients are in the middle of everything.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    KEY, KEYS, call, has_clients,
    support::{Client, Process, ask, packages, position, post, until},
    with_token,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svc_8_half_requests_open_streams_idle_connections_and_a_dead_collector_do_not_hold_it_up() {
    if !has_clients() {
        return;
    }
    // It takes connections and never answers.
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = collector.local_addr().unwrap().to_string();
    let limit = Duration::from_secs(10);
    let service = Process::full(&[
        KEYS,
        ("CQI_TRACING_ENDPOINT", &endpoint),
        ("CQI_SERVER_SHUTDOWN_TIMEOUT", "10s"),
        ("LOG_LEVEL", "debug"),
    ])
    .await;
    let request = with_token(&post(&position("p", "a", 1)), KEY);
    let answer = ask(service.http(), &request).await;
    assert_eq!(answer.status, 201);
    let mut idle = Client::connect(service.http()).await.unwrap();
    assert_eq!(idle.get("/health/live").await.unwrap().status, 200);
    let (mut half_head, mut half_body) = (
        Client::connect(service.http()).await.unwrap(),
        Client::connect(service.http()).await.unwrap(),
    );
    half_head.send(&request[..30]).await.unwrap();
    half_body.send(&request[..request.len() - 5]).await.unwrap();
    let watch = call(
        "cqi.examples.positions.v1.Positions/WatchPositions",
        &serde_json::json!({"portfolio_id": "p"}),
        KEY,
    );
    let mut watching = Command::new("python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/clients/grpc_client.py"
        ))
        .arg(service.grpc().to_string())
        .env("PYTHONPATH", packages())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    watching
        .stdin
        .take()
        .unwrap()
        .write_all(watch.as_bytes())
        .unwrap();
    until("an open stream", || {
        let log = service.log();
        let open = |line: &serde_json::Value| {
            line["method"]
                .as_str()
                .is_some_and(|method| method.ends_with("WatchPositions"))
        };
        log.iter().any(open).then_some(()).ok_or(log.len())
    })
    .await;

    let began = Instant::now();
    service.terminate();
    // What was accepted is finished: the body comes late, and is answered.
    service.line_with("stop: draining").await;
    half_body.send(&request[request.len() - 5..]).await.unwrap();
    assert_eq!(half_body.answer().await.unwrap().status, 201);
    let ended = service.ended().await;
    assert!(
        began.elapsed() < limit + Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // The stream ended as streams end, not by a cut connection.
    let output = watching.wait_with_output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(seen.contains("\"OK\""), "{seen}\n{}", ended.said());
    assert!(
        ended.said().contains("spans"),
        "what was lost is said: {}",
        ended.said()
    );
}
