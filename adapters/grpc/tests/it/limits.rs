//! Limits on connections, and on how slow a client may be (G-10).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::body::Body;
use tower::{Service as _, ServiceExt as _};

use crate::{
    echo::note,
    raw::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Raw, SETTINGS, WINDOW_UPDATE, call_headers,
        message,
    },
    support::{PATIENCE, SHORT, channel, options, serve, soon},
};

#[tokio::test]
async fn what_is_no_grpc_is_turned_away() {
    let running = serve(options()).await;
    let mut channel = channel(running.address);
    for request in [
        http::Request::get("/test.v1.Echo/Unary").header("content-type", "application/grpc"),
        http::Request::post("/test.v1.Echo/Unary").header("content-type", "application/json"),
        http::Request::post("/test.v1.Echo/Unary"),
    ] {
        let request = request.body(Body::empty()).unwrap();
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "3");
    }
}

#[tokio::test]
async fn g_10_who_says_nothing_is_closed() {
    let mut options = options();
    options.handshake_timeout = SHORT;
    options.idle_timeout = 2 * SHORT;
    let running = serve(options).await;
    let mut silent = Raw::silent(running.address).await;
    silent.closed().await;
    let mut half = Raw::silent(running.address).await;
    half.write(b"PRI * HTTP/2.0\r\n").await;
    half.closed().await;
    let mut idle = Raw::connect(running.address).await;
    assert!(idle.closed().await.contains(&GOAWAY));
}

#[tokio::test]
async fn g_10_pings_do_not_keep_an_idle_connection_open() {
    let mut options = options();
    options.idle_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    let begun = Instant::now();
    // The pause is the ping rate of the hostile client, not a wait for something.
    loop {
        raw.send(PING, 0, 0, &[7; 8]).await;
        sleep(Duration::from_millis(1)).await;
        let frame = soon(raw.next()).await;
        if frame.is_none_or(|frame| frame.kind == GOAWAY) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn g_10_a_client_that_does_not_answer_pings_is_cut() {
    let mut options = options();
    options.keep_alive_interval = SHORT;
    options.keep_alive_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    assert!(raw.closed().await.contains(&PING));
    // One that does stays; tonic's client answers.
    let mut stream = running.client.clone().count(note("wait", 1)).await.unwrap();
    stream.message().await.unwrap();
    sleep(3 * SHORT).await; // longer than the server would wait
    running.echo.go.add_permits(1);
    assert_eq!(stream.message().await.unwrap(), Some(note("done", 0)));
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_a_place() {
    let mut options = options();
    options.max_connections = 1;
    let running = serve(options).await;
    let mut first = Raw::connect(running.address).await;
    first.next().await.unwrap(); // its place is taken
    let mut client = running.client.clone();
    let waiting = client.ask("hello");
    tokio::pin!(waiting);
    let early = timeout(SHORT, &mut waiting).await;
    assert!(early.is_err(), "a second connection is served");
    drop(first);
    soon(waiting).await.unwrap();
}

#[tokio::test]
async fn h_02_one_client_has_no_more_connections_than_it_may() {
    let mut options = options();
    options.max_connections_per_client = 1;
    let running = serve(options).await;
    let mut first = Raw::connect(running.address).await;
    first.next().await.unwrap();
    let mut second = Raw::connect(running.address).await;
    assert!(second.closed().await.is_empty());
    drop(first);
    soon(async { while running.client.clone().ask("hello").await.is_err() {} }).await;
}

#[tokio::test]
async fn g_10_a_call_whose_message_never_comes_ends_in_time() {
    let mut options = options();
    options.request_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    raw.send(HEADERS, END_HEADERS, 1, &call_headers("/test.v1.Echo/Unary", &[]))
        .await;
    raw.send(DATA, 0, 1, &[0, 0]).await; // two bytes of a prefix
    raw.send(
        HEADERS,
        END_HEADERS,
        3,
        &call_headers("/test.v1.Echo/Upload", &[]),
    )
    .await;
    running.notes.wait_for("Unary DEADLINE_EXCEEDED").await;
    running.notes.wait_for("Upload DEADLINE_EXCEEDED").await;
}

#[tokio::test]
async fn g_10_a_connection_over_its_age_ends_and_its_endless_calls_are_cut() {
    let mut options = options();
    options.max_connection_age = SHORT;
    options.max_connection_age_grace = SHORT;
    let mut running = serve(options).await;
    let mut endless = running.client.count(note("hang", 1)).await.unwrap();
    endless.message().await.unwrap();
    soon(endless.message()).await.unwrap_err();
    running.notes.wait_for("Count CANCELLED").await;
    // A new connection is made.
    soon(running.client.ask("again")).await.unwrap();
}

#[tokio::test]
async fn g_10_a_client_that_does_not_read_is_cut() {
    let mut options = options();
    options.write_timeout = SHORT;
    let running = serve(options).await;
    let mut raw = Raw::connect(running.address).await;
    // Allows the server to send as much as it likes, and reads nothing of it.
    raw.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]).await;
    raw.send(WINDOW_UPDATE, 0, 0, &0x7f00_0000u32.to_be_bytes()).await;
    raw.send(HEADERS, END_HEADERS, 1, &call_headers("/test.v1.Echo/Count", &[]))
        .await;
    raw.send(DATA, END_STREAM, 1, &message(&note("", u64::MAX))).await;
    running.notes.wait_for("Count CANCELLED").await;
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused() {
    let mut running = serve(options()).await;
    let mut request = tonic::Request::new(note("", 0));
    for n in 0..20 {
        let key: &'static str = Box::leak(format!("x-{n}").into_boxed_str());
        request
            .metadata_mut()
            .insert(key, "v".repeat(1000).parse().unwrap());
    }
    soon(running.client.unary(request)).await.unwrap_err();
    soon(running.client.ask("on")).await.unwrap();
}
