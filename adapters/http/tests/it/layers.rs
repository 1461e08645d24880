//! The layers that are on or off by options, and their order.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    http::HeaderMap,
    routing::{get, post},
};
use cqi_core::{
    auth::{ApiKeys, Verifier},
    health::Health,
    observe::Observer,
};
use cqi_http::{
    ClientIp, CorsOptions, HttpOptions, HttpServer, Json, RateLimit, limit_rate, probe_router, remaining_time,
};
use tokio::sync::Semaphore;

use crate::support::{Client, Notes, PATIENCE, SHORT, ask, observed, options, serve, start};

const KEY: &str = "Authorization: Bearer 0123456789abcdef\r\n";
const ORIGIN: &str = "Origin: https://example.com\r\n";

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/panic", get(|| async { panic!("a secret") as &'static str }))
        .route(
            "/length",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .route("/text", get(|| async { "abcd".repeat(1024) }))
        .route("/slow", get(std::future::pending::<()>))
        .route(
            "/left",
            get(|| async { Json(remaining_time().map(|left| u64::try_from(left.as_millis()).unwrap())) }),
        )
        .route(
            "/from",
            get(|ClientIp(client): ClientIp, headers: HeaderMap| async move {
                let claims = headers
                    .keys()
                    .filter(|name| name.as_str().starts_with('x'))
                    .count();
                format!("{} {claims}", client.unwrap())
            }),
        )
        .merge(probe_router(&Health::new()))
}

async fn with(change: impl FnOnce(&mut HttpOptions)) -> (Client, cqi_core::service::ServiceHandle) {
    let mut options = options();
    change(&mut options);
    let (address, handle) = serve(router(), options).await;
    (Client::connect(address).await, handle)
}

fn cors() -> CorsOptions {
    CorsOptions {
        origins: vec!["https://example.com".to_owned()],
        ..CorsOptions::default()
    }
}

#[tokio::test]
async fn ml_http_11_mw_1_the_order_of_the_standard_stack() {
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn Observer> = Arc::<Notes>::clone(&notes);
    let keys: Arc<dyn Verifier> = Arc::new(ApiKeys::parse(["0123456789abcdef".into()]).unwrap());
    let options = HttpOptions {
        cors: Some(cors()),
        compression: true,
        rate_limit: Some(RateLimit {
            burst: 6,
            ..RateLimit::per_minute(1)
        }),
        ..options()
    };
    let server = HttpServer::new("http", router(), options)
        .unwrap()
        .observer(observer);
    let (address, _handle) = start(server.auth(keys).unwrap()).await;
    let mut client = Client::connect(address).await;

    // Authentication is innermost but for compression: all the others see what it refuses.
    let refused = client.get_with("/nowhere", ORIGIN).await;
    assert_eq!(refused.status, 401);
    for name in [
        "x-request-id",
        "access-control-allow-origin",
        "x-content-type-options",
    ] {
        assert!(refused.header(name).is_some(), "{name}: {}", refused.head);
    }
    // CORS is outside of authentication: a preflight has no credential.
    client
        .send(format!(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\n{ORIGIN}Access-Control-Request-Method: GET\r\n\r\n"
        ))
        .await;
    let preflight = client.answer().await.unwrap();
    assert_eq!(preflight.status, 204, "{}", preflight.head);
    assert!(preflight.header("x-content-type-options").is_some());
    // Recovery is inside of CORS, security headers, metrics: they complete the answer to a panic.
    let panicked = client.get_with("/panic", &format!("{ORIGIN}{KEY}")).await;
    assert_eq!(panicked.status, 500);
    for name in [
        "x-request-id",
        "access-control-allow-origin",
        "x-content-type-options",
    ] {
        assert!(panicked.header(name).is_some(), "{name}: {}", panicked.head);
    }
    // Compression is inside of metrics, which count what goes over the wire.
    client
        .get_with("/text", &format!("{KEY}Accept-Encoding: gzip\r\n"))
        .await;
    // The rate limit is outside of authentication and of the body's limits, and traced, measured and logged.
    client.get_with("/", KEY).await;
    client.get_with("/", KEY).await;
    let limited = client.get_with("/", ORIGIN).await;
    assert_eq!(limited.status, 429, "{}", limited.head);
    assert!(limited.header("retry-after").is_some());
    assert!(limited.header("access-control-allow-origin").is_some());
    let seen: Vec<String> = notes
        .all()
        .into_iter()
        .map(|note| note.split(" in=").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        seen,
        [
            "http GET unmatched 401",
            "http OPTIONS / 204",
            "panic http",
            "http GET /panic 500",
            "http GET /text 200",
            "http GET / 200",
            "http GET / 200",
            "http GET / 429",
        ]
    );
}

#[tokio::test]
async fn h_21_ml_http_9_cors_over_the_wire() {
    let (mut client, _handle) = with(|options| options.cors = Some(cors())).await;
    let answer = client.get_with("/", ORIGIN).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://example.com")
    );
    for origin in ["null", "https://evil-example.com", "https://example.com.evil.org"] {
        let answer = client.get_with("/", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(answer.status, 200);
        assert!(
            !answer.head.to_lowercase().contains("access-control"),
            "{}",
            answer.head
        );
    }
    let any = HttpOptions {
        cors: Some(CorsOptions {
            origins: vec!["*".to_owned()],
            credentials: true,
            ..CorsOptions::default()
        }),
        ..options()
    };
    let error = HttpServer::new("http", router(), any).unwrap_err();
    assert!(
        error.to_string().contains("must not go with credentials"),
        "{error}"
    );
}

#[tokio::test]
async fn ml_http_10_security_headers_are_on_unless_switched_off() {
    let (mut client, _handle) = with(|_| {}).await;
    for path in ["/", "/nowhere"] {
        let answer = client.get(path).await;
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(
            answer.header("content-security-policy"),
            Some("default-src 'none'; frame-ancestors 'none'")
        );
        assert_eq!(
            answer.header("strict-transport-security"),
            None,
            "there is no TLS"
        );
    }
    let (mut client, _handle) = with(|options| options.security_headers = None).await;
    assert_eq!(client.get("/").await.header("x-frame-options"), None);
}

#[tokio::test]
async fn compression_is_for_those_who_ask_where_it_is_on() {
    const GZIP: &str = "Accept-Encoding: gzip\r\n";
    let (mut client, _handle) = with(|options| options.compression = true).await;
    let answer = client.get_with("/text", GZIP).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.header("vary").unwrap().contains("accept-encoding"));
    assert_eq!(client.get("/text").await.header("content-encoding"), None);
    let tiny = client.get_with("/", GZIP).await;
    assert_eq!(
        (tiny.header("content-encoding"), tiny.body.as_str()),
        (None, "hello")
    );
    let (mut client, _handle) = with(|_| {}).await;
    assert_eq!(
        client.get_with("/text", GZIP).await.header("content-encoding"),
        None
    );
}

#[tokio::test]
async fn h_09_encoded_bodies_are_refused_unless_asked_for() {
    let post = |coding: &str| {
        format!(
            "POST /length HTTP/1.1\r\nHost: a\r\nContent-Encoding: {coding}\r\nContent-Length: 3\r\n\r\nabc"
        )
    };
    let (address, _handle) = serve(router(), options()).await;
    for coding in [
        "gzip",
        "zstd",
        "gzip, gzip",
        "GZIP",
        "identity\r\nContent-Encoding: gzip",
    ] {
        let answer = ask(address, post(coding)).await;
        assert_eq!(answer.status, 415, "{coding}");
    }
    assert_eq!(ask(address, post("Identity")).await.body, "3");
    let allowed = HttpOptions {
        encoded_bodies: true,
        ..options()
    };
    let (address, _handle) = serve(router(), allowed).await;
    assert_eq!(ask(address, post("gzip")).await.body, "3", "as it came");
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again() {
    let (mut client, _handle) = with(|options| options.rate_limit = Some(RateLimit::per_minute(2))).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/nowhere").await.status, 404);
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (429, r#"{"error":"too many requests","code":"RATE_LIMITED"}"#)
    );
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((20..=30).contains(&seconds), "{seconds}");
    assert_eq!(client.get("/health/live").await.status, 200, "probes are exempt");
}

#[tokio::test]
async fn routes_have_limits_of_their_own() {
    let limited = Router::new()
        .route("/dear", get(|| async { "dear" }))
        .route_layer(limit_rate(RateLimit::per_minute(1)).unwrap());
    let (address, _handle) = serve(router().merge(limited), options()).await;
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/dear").await.status, 200);
    assert_eq!(client.get("/dear").await.status, 429);
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn more_at_once_than_allowed_is_shed_and_probes_are_not() {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let gates = (Arc::clone(&entered), Arc::clone(&go));
    let gate = get(move || {
        let (entered, go) = gates.clone();
        async move {
            entered.add_permits(1);
            go.acquire().await.unwrap().forget();
            "done"
        }
    });
    let options = HttpOptions {
        max_in_flight: 1,
        ..options()
    };
    let (address, _handle, notes) = observed(router().route("/gate", gate), options).await;
    let (mut busy, mut other) = (Client::connect(address).await, Client::connect(address).await);
    busy.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    entered.acquire().await.unwrap().forget();
    let answer = other.get("/").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, r#"{"error":"too many requests at once","code":"EXHAUSTED"}"#)
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(other.get("/health").await.status, 200);
    go.add_permits(1);
    assert_eq!(busy.answer().await.unwrap().body, "done");
    assert_eq!(other.get("/").await.status, 200);
    // A client that leaves frees its place too.
    busy.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    entered.acquire().await.unwrap().forget();
    drop(busy);
    notes.wait_for("http GET /gate 499").await;
    assert_eq!(other.get("/").await.status, 200);
}

#[tokio::test]
async fn the_callers_deadline_shortens_the_servers() {
    let (mut client, _handle) = with(|_| {}).await;
    let left = async |client: &mut Client, line: &str| -> u64 {
        client.get_with("/left", line).await.body.parse().unwrap()
    };
    assert!((1_000..=5_000).contains(&left(&mut client, "x-request-timeout: 5S\r\n").await));
    for line in ["", "x-request-timeout: 1H\r\n", "x-request-timeout: nonsense\r\n"] {
        assert!(
            (20_000..=30_000).contains(&left(&mut client, line).await),
            "{line}"
        );
    }
    let answer = client.get_with("/slow", "x-request-timeout: 200m\r\n").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (504, r#"{"error":"no answer within 200ms","code":"TIMEOUT"}"#)
    );
    let answer = client.get_with("/", "x-request-timeout: 0m\r\n").await;
    assert_eq!(answer.status, 504, "too late already");
    assert_eq!(remaining_time(), None::<Duration>);
}

#[tokio::test]
async fn a_24_the_clients_address_is_the_peers_or_what_a_trusted_proxy_says() {
    let claims =
        "X-Forwarded-For: 127.0.0.9, 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.1.1.1\r\n";
    let (mut client, _handle) = with(|_| {}).await;
    assert_eq!(client.get_with("/from", claims).await.body, "127.0.0.1 0");
    let (mut client, _handle) =
        with(|options| options.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    assert_eq!(client.get_with("/from", claims).await.body, "203.0.113.9 2");
}

#[tokio::test]
async fn h_02_a_client_may_have_so_many_connections() {
    let (address, _handle) = serve(
        router(),
        HttpOptions {
            max_connections_per_client: 1,
            ..options()
        },
    )
    .await;
    let mut first = Client::connect(address).await;
    first.get("/").await;
    let mut second = Client::connect(address).await;
    second.closed().await;
    assert_eq!(first.get("/").await.status, 200);
    drop(first);
    let again = async {
        loop {
            let mut third = Client::connect(address).await;
            third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if third.answer().await.is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    // A proxy brings many clients.
    let (address, _handle) = serve(
        router(),
        HttpOptions {
            max_connections_per_client: 1,
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
            header_timeout: SHORT * 10,
            ..options()
        },
    )
    .await;
    let (mut one, mut two) = (Client::connect(address).await, Client::connect(address).await);
    assert_eq!((one.get("/").await.status, two.get("/").await.status), (200, 200));
}
