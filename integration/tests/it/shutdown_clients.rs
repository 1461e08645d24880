//! Clients that do nothing, or half of something, while the process is to end.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Client, Process, ask};

const HALF_A_BODY: &str = "POST /api/positions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
                           content-length: 100\r\n\r\n{\"portfolio_id\":";

#[tokio::test]
async fn f_life_02_idle_silent_and_slow_clients_do_not_hold_the_process() {
    let service = Process::quickstart(&[]).await;
    let mut idle = Client::connect(service.http()).await.unwrap();
    assert_eq!(idle.get("/health/live").await.unwrap().status, 200);
    let mut silent = Client::connect(service.http()).await.unwrap();
    let mut half_a_head = Client::connect(service.http()).await.unwrap();
    half_a_head
        .send("GET /health/live HTTP/1.1\r\nhost: te")
        .await
        .unwrap();
    // Answered after all of them were accepted.
    ask(service.http(), "GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n").await;

    let begun = Instant::now();
    let ended = service.stop().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: {}", ended.log);
    // None was told anything it did not ask for. A reset is as good as an end.
    for client in [&mut idle, &mut silent] {
        assert_eq!(client.rest().await.unwrap_or_default(), "");
    }
    let said = half_a_head.rest().await.unwrap_or_default();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
}

#[tokio::test]
async fn f_life_02_a_request_that_never_completes_is_cut_in_time_and_named() {
    let service = Process::quickstart(&[("CQI_SERVER_SHUTDOWN_TIMEOUT", "3s")]).await;
    let mut half = Client::connect(service.http()).await.unwrap();
    half.send(HALF_A_BODY).await.unwrap();
    ask(service.http(), "GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n").await;

    let begun = Instant::now();
    service.terminate();
    let ended = service.ended().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(4500), "{took:?}: {}", ended.log);
    assert_eq!(ended.code, Some(1), "{}", ended.said());
    assert!(ended.log.contains("connections were cut"), "{}", ended.log);
    assert!(
        half.answer().await.is_err(),
        "a request that never arrived was answered"
    );
}

#[tokio::test]
async fn f_life_03_a_second_signal_ends_the_drain_at_once() {
    let service = Process::quickstart(&[]).await;
    let mut half = Client::connect(service.http()).await.unwrap();
    half.send(HALF_A_BODY).await.unwrap();
    ask(service.http(), "GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n").await;

    service.terminate();
    service.line_with("stop: draining").await;
    let begun = Instant::now();
    service.terminate();
    let ended = service.ended().await;
    let took = begun.elapsed();
    assert_eq!(ended.code, Some(143), "{}", ended.said());
    assert!(took < Duration::from_secs(5), "{took:?}: {}", ended.log);
    assert!(ended.log.contains("second signal"), "{}", ended.log);
}
