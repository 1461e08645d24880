//! Clients that are slow, greedy or wrong.

use axum::{
    Router,
    body::Bytes,
    routing::{get, post},
};
use cqi_http::HttpOptions;

use crate::support::{Client, PATIENCE, SHORT, ask, observed, options, serve};

const TOO_LARGE: &str = r#"{"error":"body is too large","code":"TOO_LARGE"}"#;

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/length",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .route("/large", get(|| async { vec![b'x'; 64 * 1024 * 1024] }))
}

#[tokio::test]
async fn h_01_02_a_head_that_does_not_come_closes_the_connection() {
    let options = HttpOptions {
        header_timeout: SHORT,
        ..options()
    };
    let (address, _handle) = serve(router(), options).await;
    let begun = tokio::time::Instant::now();
    let mut silent = Client::connect(address).await;
    let mut half = Client::connect(address).await;
    half.send("GET / HTTP/1.1\r\nHost:").await;
    silent.closed().await;
    half.closed().await;
    // The same on a connection that has served a request, long before it counts as idle.
    let mut second = Client::connect(address).await;
    second.get("/").await;
    second.send("GET / HT").await;
    second.closed().await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn idle_connections_live_past_the_header_timeout_and_are_closed_at_their_own() {
    let options = HttpOptions {
        header_timeout: SHORT,
        idle_timeout: SHORT * 4,
        ..options()
    };
    let (address, _handle) = serve(router(), options).await;
    let mut client = Client::connect(address).await;
    client.get("/").await;
    let begun = tokio::time::Instant::now();
    client.closed().await;
    let lived = begun.elapsed();
    assert!(lived > SHORT * 3 && lived < PATIENCE, "{lived:?}");
}

#[tokio::test]
async fn h_03_a_body_that_drips_is_answered_and_closed() {
    let options = HttpOptions {
        body_timeout: SHORT,
        ..options()
    };
    let (address, _handle) = serve(router(), options).await;
    let mut client = Client::connect(address).await;
    client
        .send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.status, 408);
    assert_eq!(
        answer.body,
        r#"{"error":"the body did not arrive in time","code":"TIMEOUT"}"#
    );
    client.closed().await;
}

#[tokio::test]
async fn h_04_a_client_that_does_not_read_is_cut() {
    let options = HttpOptions {
        write_timeout: SHORT,
        ..options()
    };
    let (address, mut handle, notes) = observed(router(), options).await;
    let mut client = Client::connect(address).await;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    notes.wait_for("GET /large 200").await;
    // The drain waits for it; only because the client was cut it ends well before the grace of 20 s.
    handle.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn h_05_heads_over_the_limit_are_refused() {
    let (address, _handle) = serve(router(), options()).await;
    let long = "x".repeat(64 * 1024);
    let many: String = (0..10_000).map(|number| format!("a{number}: b\r\n")).collect();
    let huge: String = (0..64)
        .map(|number| format!("a{number}: {}\r\n", "x".repeat(16 * 1024)))
        .collect();
    for request in [
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nlong: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{huge}\r\n"),
    ] {
        let answer = ask(address, request).await;
        assert_eq!(answer.status, 431, "{answer:?}");
    }
    let hundred: String = (0..99).map(|number| format!("a{number}: b\r\n")).collect();
    assert_eq!(
        ask(address, format!("GET / HTTP/1.1\r\nHost: a\r\n{hundred}\r\n"))
            .await
            .status,
        200
    );
    assert_eq!(
        ask(
            address,
            format!("GET / HTTP/1.1\r\nHost: a\r\nb: b\r\n{hundred}\r\n")
        )
        .await
        .status,
        431
    );
}

#[tokio::test]
async fn h_06_ml_http_5_bodies_over_the_limit_are_refused_with_and_without_a_length() {
    let options = HttpOptions {
        max_body_bytes: 3 * 1024 * 1024,
        ..options()
    };
    let limit = options.max_body_bytes;
    let (address, _handle) = serve(router(), options).await;
    let body = "x".repeat(limit + 1);
    let announced = format!(
        "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        limit + 1
    );
    let answer = ask(address, &announced).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (413, TOO_LARGE),
        "before the body was sent"
    );
    let chunked = "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = ask(
        address,
        format!("{chunked}{:x}\r\n{body}\r\n0\r\n\r\n", limit + 1),
    )
    .await;
    assert_eq!((answer.status, answer.body.as_str()), (413, TOO_LARGE));
    // Exactly at the limit, which is above axum's own.
    let body = &body[1..];
    let fits = format!("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {limit}\r\n\r\n{body}");
    assert_eq!(ask(address, fits).await.body, limit.to_string());
    let fits = format!("{chunked}{limit:x}\r\n{body}\r\n0\r\n\r\n");
    assert_eq!(ask(address, fits).await.body, limit.to_string());
}

#[tokio::test]
async fn h_07_ambiguous_requests_are_refused_and_the_connection_closed() {
    let (address, _handle) = serve(router(), options()).await;
    for headers in [
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Content-Length : 3",
        "a: b\r\n c",
        "a\u{0}: b",
    ] {
        let mut client = Client::connect(address).await;
        client
            .send(format!("POST /length HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n"))
            .await;
        assert_eq!(
            client.answer().await.map(|answer| answer.status),
            Some(400),
            "{headers:?}"
        );
        client.closed().await;
    }
}

const BOTH: [&str; 4] = [
    "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "CONTENT-length:4\r\nTransfer-Encoding: Chunked",
    "a: content-length\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
];
const SMUGGLED: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn h_07_both_length_and_chunks_are_refused_and_the_connection_closed() {
    let (address, _handle) = serve(router(), options()).await;
    for headers in BOTH {
        let request = format!("POST /length HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n0\r\n\r\n{SMUGGLED}");
        // At once, after another request, and in two pieces.
        for before in ["", SMUGGLED] {
            for cut in [request.len() / 3, request.len()] {
                let mut client = Client::connect(address).await;
                if !before.is_empty() {
                    assert_eq!(client.get("/").await.status, 200);
                }
                client.send(&request[..cut]).await;
                if cut < request.len() {
                    tokio::task::yield_now().await;
                    client.send(&request[cut..]).await;
                }
                let answer = client.answer().await.unwrap();
                assert_eq!(
                    (answer.status, answer.header("connection")),
                    (400, Some("close")),
                    "{headers:?}"
                );
                assert!(
                    answer
                        .body
                        .starts_with(r#"{"error":"a request must not have both"#),
                    "{answer:?}"
                );
                client.closed().await;
            }
        }
    }
    let chunked = "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n11\r\nContent-Length: 4\r\n0\r\n\r\n";
    assert_eq!(ask(address, chunked).await.body, "17", "the body is no head");
}

#[tokio::test]
async fn h_07_after_a_chunked_request_nothing_more_is_read_from_the_connection() {
    let (address, _handle) = serve(router(), options()).await;
    for headers in BOTH {
        let mut client = Client::connect(address).await;
        // Pipelined, so that its head is not seen apart.
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client
            .send(format!(
                "{first}POST /length HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ))
            .await;
        let seen = client.answer_or_noise().await.unwrap();
        let answers = seen.matches("HTTP/1.1 ").count();
        assert_eq!(
            (answers, seen.matches("connection: close").count()),
            (2, 1),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn h_14_exactly_one_well_formed_host() {
    let (address, _handle) = serve(router(), options()).await;
    for headers in ["", "Host: a\r\nHost: a\r\n", "Host: u@a\r\n", "Host: a:99999\r\n"] {
        let answer = ask(address, format!("GET / HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(answer.status, 400, "{headers:?}");
        assert!(answer.body.contains("INVALID_INPUT"), "{answer:?}");
    }
    assert_eq!(ask(address, "GET / HTTP/1.0\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn h_17_expectations() {
    let options = HttpOptions {
        body_timeout: SHORT,
        ..options()
    };
    let (address, _handle) = serve(router(), options).await;
    let mut client = Client::connect(address).await;
    client
        .send("POST /length HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    assert_eq!(client.answer().await.unwrap().status, 408, "no body came");
    client.closed().await;
    let answer = ask(address, "GET / HTTP/1.1\r\nHost: a\r\nExpect: a-pony\r\n\r\n").await;
    assert_eq!(answer.status, 417);
}

#[tokio::test]
async fn h_22_conditions_and_ranges_have_the_limits_of_heads() {
    let (address, _handle) = serve(router(), options()).await;
    let etags = "\"x\", ".repeat(200_000);
    let answer = ask(
        address,
        format!("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etags}\r\n\r\n"),
    )
    .await;
    assert_eq!(answer.status, 431);
    let ranges = "0-0,".repeat(1000);
    let answer = ask(
        address,
        format!("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes={ranges}1-1\r\n\r\n"),
    )
    .await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "hello"),
        "ranges are not cut"
    );
}

#[tokio::test]
async fn connections_over_the_limit_wait_their_turn() {
    let options = HttpOptions {
        max_connections: 1,
        ..options()
    };
    let (address, _handle) = serve(router(), options).await;
    let mut first = Client::connect(address).await;
    first.get("/").await;
    let mut second = Client::connect(address).await;
    let waiting = second.get("/");
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(SHORT, &mut waiting).await.is_err(),
        "it was served beside the first"
    );
    drop(first);
    assert_eq!(waiting.await.status, 200);
}
