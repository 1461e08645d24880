//! Requests with the same `Idempotency-Key`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use cqi_core::{
    auth::ApiKeys,
    cache::{Cache, MemoryCache, MemoryCacheOptions},
    service::ServiceHandle,
};
use cqi_http::{HttpOptions, HttpServer, Idempotency, IdempotencyOptions};
use tokio::{sync::Semaphore, time::Instant};

use crate::support::{Answer, Client, PATIENCE, SHORT, options, start};

const ADA: &str = "0123456789abcdef";
const BOB: &str = "fedcba9876543210";

/// What has happened, and who may go on.
#[derive(Debug)]
struct Shop {
    orders: AtomicUsize,
    gate: Semaphore,
    cache: Arc<dyn Cache>,
}

impl Shop {
    /// Does as the path says, and counts.
    async fn order(&self, what: &str, body: Bytes) -> Response {
        let number = self.orders.fetch_add(1, SeqCst) + 1;
        let text = format!("{number}:{}", body.len());
        match what {
            "slow" => {
                self.gate.acquire().await.unwrap().forget();
                text.into_response()
            }
            "stuck" => std::future::pending().await,
            "large" => vec![b'x'; 1000].into_response(),
            "stream" => {
                Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(text)])).into_response()
            }
            status => {
                let status: u16 = status.parse().unwrap_or(201);
                let headers = [
                    (header::LOCATION, "/orders/1"),
                    (header::CONTENT_TYPE, "text/x-order"),
                ];
                (StatusCode::from_u16(status).unwrap(), headers, text).into_response()
            }
        }
    }

    fn orders(&self) -> usize {
        self.orders.load(SeqCst)
    }
}

struct Running {
    address: SocketAddr,
    shop: Arc<Shop>,
    _handle: ServiceHandle,
}

async fn running(change: impl FnOnce(&mut IdempotencyOptions, &mut HttpOptions)) -> Running {
    let mut options = options();
    let shop = Arc::new(Shop {
        orders: AtomicUsize::new(0),
        gate: Semaphore::new(0),
        cache: Arc::new(MemoryCache::new(MemoryCacheOptions::default())),
    });
    let mut idempotency = IdempotencyOptions {
        max_answer_bytes: 999,
        max_request_bytes: 100,
        ..IdempotencyOptions::default()
    };
    change(&mut idempotency, &mut options);
    let once = Idempotency::new(Arc::clone(&shop.cache), idempotency).unwrap();
    let handler = |shop: &Arc<Shop>| {
        let shop = Arc::clone(shop);
        async move |Path(what): Path<String>, body: Bytes| shop.order(&what, body).await
    };
    let routes = Router::new()
        .route(
            "/orders/{what}",
            post(handler(&shop))
                .put(handler(&shop))
                .get(handler(&shop))
                .layer(once.clone()),
        )
        .route("/refunds/{what}", post(handler(&shop)).layer(once.clone()))
        .route("/open/{what}", post(handler(&shop)).layer(once))
        .route("/plain", get(|| async { "plain" }));
    let keys = ApiKeys::parse([
        format!("ada:{ADA}").as_str().into(),
        format!("bob:{BOB}").as_str().into(),
    ]);
    options.auth.open_paths = vec!["/open/1".to_owned()];
    let server = HttpServer::new("http", routes, options).unwrap();
    let (address, handle) = start(server.auth(Arc::new(keys.unwrap())).unwrap()).await;
    Running {
        address,
        shop,
        _handle: handle,
    }
}

impl Running {
    async fn send(&self, line: &str, as_whom: &str, lines: &str, body: &str) -> Answer {
        let mut client = Client::connect(self.address).await;
        let length = body.len();
        client
            .send(format!(
                "{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {as_whom}\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        client.answer().await.unwrap()
    }

    async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        let line = format!("POST {path}");
        self.send(&line, ADA, &format!("Idempotency-Key: {key}\r\n"), body)
            .await
    }
}

#[tokio::test]
async fn h_24_the_same_request_has_one_effect_and_one_answer() {
    let running = running(|_, _| {}).await;
    let first = running.post("/orders/new", "k", "apples").await;
    assert_eq!((first.status, first.body.as_str()), (201, "1:6"));
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..3 {
        let again = running.post("/orders/new", "k", "apples").await;
        assert_eq!((again.status, again.body.as_str()), (201, "1:6"));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        for name in ["content-type", "location"] {
            assert_eq!(again.header(name), first.header(name));
        }
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    }
    assert_eq!(running.shop.orders(), 1);
    // Without a key, or another one, it is another request.
    running.send("POST /orders/new", ADA, "", "apples").await;
    running.post("/orders/new", "K", "apples").await;
    assert_eq!(running.shop.orders(), 3);
}

#[tokio::test]
async fn h_24_a_key_for_another_request_is_422() {
    let running = running(|_, _| {}).await;
    running.post("/orders/new", "k", "apples").await;
    for (path, lines, body) in [
        ("/orders/new", "", "pears"),
        ("/orders/new", "", ""),
        ("/orders/other", "", "apples"),
        ("/orders/new?express=1", "", "apples"),
        ("/orders/new", "Content-Type: text/plain\r\n", "apples"),
    ] {
        let lines = format!("Idempotency-Key: k\r\n{lines}");
        let answer = running.send(&format!("POST {path}"), ADA, &lines, body).await;
        assert_eq!(answer.status, 422, "{path} {lines} {body}");
        assert!(answer.body.contains("INVALID_INPUT"), "{answer:?}");
    }
    assert_eq!(running.shop.orders(), 1);
}

#[tokio::test]
async fn h_24_a_key_is_its_callers_and_its_routes() {
    let running = running(|_, _| {}).await;
    running.post("/orders/new", "k", "apples").await;
    let key = "Idempotency-Key: k\r\n";
    for (line, whom) in [
        ("POST /orders/new", BOB),
        ("PUT /orders/new", ADA),
        ("POST /refunds/new", ADA),
    ] {
        let answer = running.send(line, whom, key, "pears").await;
        assert_eq!(
            (answer.status, answer.header("idempotency-replayed")),
            (201, None),
            "{line}"
        );
    }
    assert_eq!(running.shop.orders(), 4);
    let answer = running.send("POST /open/1", "nobody", key, "").await;
    assert_eq!(answer.status, 401, "a key of nobody's");
    assert_eq!(
        running.send("GET /orders/new", ADA, key, "").await.status,
        201,
        "GET is safe anyway"
    );
    assert_eq!(running.shop.orders(), 5);
}

#[tokio::test]
async fn h_24_malformed_keys_are_400() {
    let running = running(|_, _| {}).await;
    let two = "a\r\nIdempotency-Key: b";
    for key in ["", "a\tb", "\u{e9}", &"k".repeat(256), &"k".repeat(10_240), two] {
        let answer = running.post("/orders/new", key, "").await;
        assert_eq!(answer.status, 400, "{key:?}");
    }
    assert_eq!(running.shop.orders(), 0);
    assert_eq!(
        running.post("/orders/new", &"k".repeat(255), "").await.status,
        201
    );
    let answer = running.post("/orders/new", "large", &"x".repeat(101)).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn h_24_a_required_key_is_required() {
    let running = running(|options, _| options.required = true).await;
    assert_eq!(running.send("POST /orders/new", ADA, "", "").await.status, 400);
    assert_eq!(running.post("/orders/new", "k", "").await.status, 201);
}

#[tokio::test]
async fn h_24_a_request_under_way_is_409_and_its_answer_comes_later() {
    let running = running(|_, _| {}).await;
    let first = running.post("/orders/slow", "k", "apples");
    tokio::pin!(first);
    let others = async {
        while running.shop.orders() == 0 {
            tokio::task::yield_now().await;
        }
        let second = running.post("/orders/slow", "k", "apples").await;
        assert_eq!((second.status, second.header("retry-after")), (409, Some("1")));
        assert_eq!(running.post("/orders/slow", "k", "pears").await.status, 422);
    };
    tokio::select! {
        biased;
        () = others => {}
        answer = &mut first => panic!("{answer:?}"),
    }
    running.shop.gate.add_permits(1);
    assert_eq!(first.await.body, "1:6");
    let again = running.post("/orders/slow", "k", "apples").await;
    assert_eq!((again.body.as_str(), running.shop.orders()), ("1:6", 1));
}

#[tokio::test]
async fn h_24_what_may_pass_is_not_kept() {
    let running = running(|_, _| {}).await;
    for (number, status) in ["500", "503", "408", "429"].into_iter().enumerate() {
        for _ in 0..2 {
            let answer = running.post(&format!("/orders/{status}"), status, "").await;
            assert_eq!(
                (
                    answer.status.to_string().as_str(),
                    answer.header("idempotency-replayed")
                ),
                (status, None)
            );
        }
        assert_eq!(running.shop.orders(), 2 * (number + 1));
    }
    for _ in 0..2 {
        assert_eq!(running.post("/orders/404", "k", "").await.status, 404);
    }
    assert_eq!(running.shop.orders(), 9);
}

#[tokio::test]
async fn h_24_a_large_answer_is_given_once_and_the_effect_not_repeated() {
    let running = running(|_, _| {}).await;
    for what in ["large", "stream"] {
        let path = format!("/orders/{what}");
        let before = running.shop.orders();
        assert_eq!(running.post(&path, what, "").await.status, 200);
        let again = running.post(&path, what, "").await;
        assert_eq!((again.status, again.header("retry-after")), (409, None));
        assert_eq!(running.shop.orders(), before + 1);
    }
}

#[tokio::test]
async fn h_24_without_its_cache_a_request_with_a_key_has_no_effect() {
    let running = running(|_, _| {}).await;
    running.shop.cache.close().await.unwrap();
    assert_eq!(running.post("/orders/new", "k", "").await.status, 500);
    assert_eq!(running.shop.orders(), 0);
    assert_eq!(running.send("POST /orders/new", ADA, "", "").await.status, 201);
}

#[tokio::test]
async fn h_24_a_request_that_was_cut_keeps_its_key_for_a_while_only() {
    let cut = running(|_, server| server.request_timeout = SHORT).await;
    assert_eq!(cut.post("/orders/stuck", "k", "").await.status, 504);
    assert_eq!(cut.post("/orders/stuck", "k", "").await.status, 409);
    assert_eq!(cut.shop.orders(), 1);
    // What its handler had done nobody knows: after that while, the next one with the key does it again.
    let cut = running(|options, server| {
        (options.running, server.request_timeout) = (Duration::from_millis(1), SHORT);
    })
    .await;
    assert_eq!(cut.post("/orders/stuck", "k", "").await.status, 504);
    let begun = Instant::now();
    while cut.post("/orders/stuck", "k", "").await.status == 409 {
        assert!(begun.elapsed() < PATIENCE, "it is kept for ever");
    }
    assert_eq!(cut.shop.orders(), 2);
}

#[tokio::test]
async fn h_24_options_without_sense_are_refused() {
    let cache: Arc<dyn Cache> = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
    let defaults = IdempotencyOptions::default;
    for bad in [
        IdempotencyOptions {
            keep: Duration::ZERO,
            ..defaults()
        },
        IdempotencyOptions {
            running: Duration::ZERO,
            ..defaults()
        },
        IdempotencyOptions {
            max_answer_bytes: usize::MAX,
            ..defaults()
        },
    ] {
        assert!(
            Idempotency::new(Arc::clone(&cache), bad)
                .unwrap_err()
                .is_invalid_input()
        );
    }
}
