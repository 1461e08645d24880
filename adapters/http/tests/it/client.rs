//! The outgoing client.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, RawQuery},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect},
    routing::{any, get},
};
use cqi_core::{
    Code, Error, Kind,
    auth::ApiKeys,
    observe::{Observation, Observer},
    policy::{Policy, Retry},
    request::{RequestId, Scope},
    service::ServiceHandle,
    trace::TraceContext,
};
use cqi_http::{HttpClient, HttpClientOptions, HttpError, HttpServer, Json};

use tokio::time::Instant;

use crate::support::{Client, PATIENCE, SHORT, options, serve, start};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Counts calls and attempts, and knows one trace.
#[derive(Debug, Default)]
struct Watch(Mutex<Vec<String>>);

impl Observer for Watch {
    fn observe(&self, observation: &Observation<'_>) {
        if let Observation::Called {
            operation,
            attempts,
            error,
            ..
        } = observation
        {
            let note = format!("{operation} {attempts} {}", error.is_none());
            self.0.lock().unwrap().push(note);
        }
    }

    fn current_trace(&self) -> Option<TraceContext> {
        TraceContext::parse(TRACE, Some("a=1"))
    }
}

fn policy() -> Policy {
    let retry = Retry {
        initial: Duration::from_millis(1),
        ..Retry::default()
    };
    Policy::new(PATIENCE, retry)
}

fn client_of(address: SocketAddr, change: impl FnOnce(&mut HttpClientOptions)) -> HttpClient {
    let mut options = HttpClientOptions::new(format!("http://{address}"));
    change(&mut options);
    HttpClient::new(options, policy()).unwrap()
}

/// A service that says what it was sent, counts, and fails as it is told.
async fn other() -> (SocketAddr, Arc<AtomicUsize>, ServiceHandle) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let echo = async |RawQuery(query): RawQuery, headers: HeaderMap, body: String| {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.push(format!("? {}", query.unwrap_or_default()));
        lines.push(format!("= {body}"));
        Json(lines)
    };
    let fail_twice = move || async move {
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(HttpError::from(Error::temporary("not yet"))),
            _ => Ok("at last"),
        }
    };
    let router = Router::new()
        .route("/echo", any(echo))
        .route("/flaky", any(fail_twice))
        .route(
            "/status/{status}",
            get(|Path(status): Path<u16>| async move {
                let retry_after = [("retry-after", "3")];
                (StatusCode::from_u16(status).unwrap(), retry_after).into_response()
            }),
        )
        .route(
            "/exists",
            get(|| async {
                HttpError::from(Error::permanent("position 7 is there").with_code(Code::AlreadyExists))
            }),
        )
        .route("/large", get(|| async { "x".repeat(2048) }))
        .route(
            "/endless",
            get(|| async {
                let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(512)));
                axum::body::Body::from_stream(chunks)
            }),
        )
        .route("/hang", any(std::future::pending::<()>))
        .route("/here", get(|| async { Redirect::temporary("/echo") }))
        .route(
            "/there",
            get(|| async { Redirect::temporary("http://127.0.0.1:1/echo") }),
        )
        .route("/loop", get(|| async { Redirect::temporary("/loop") }));
    let (address, handle) = serve(router, options()).await;
    (address, count, handle)
}

#[tokio::test]
async fn a_call_says_what_it_was_told_and_gives_the_answer() {
    let (address, _, _handle) = other().await;
    let client = client_of(address, |_| {});
    let answer = client
        .post("/echo")
        .query("currency", "e&r")
        .header("x-own", "1")
        .bearer(&"token".into())
        .json(&vec![1, 2])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-request-id"));
    let lines: Vec<String> = answer.json().unwrap();
    for line in [
        "content-type: application/json",
        "x-own: 1",
        "authorization: Bearer token",
        "? currency=e%26r",
        "= [1,2]",
    ] {
        assert!(lines.iter().any(|seen| seen == line), "{line} in {lines:?}");
    }
    let shown = format!(
        "{answer:?} {:?}",
        client.get("/").bearer(&"token".into()).query("a", "token")
    );
    assert!(!shown.contains("token"), "{shown}");
    let error = answer.json::<u32>().unwrap_err();
    assert_eq!(error.code(), Some(Code::Undecodable));
    assert!(!error.chain().to_string().contains("token"), "{error}");
}

#[tokio::test]
async fn trc_5_trace_and_time_left_are_sent_along() {
    let (address, _, _handle) = other().await;
    let options = HttpClientOptions::new(format!("http://{address}"));
    let watch = Arc::new(Watch::default());
    let observer: Arc<dyn Observer> = Arc::<Watch>::clone(&watch);
    let client = HttpClient::new(options, policy().with_observer(observer)).unwrap();
    let lines: Vec<String> = client.get("/echo").send().await.unwrap().json().unwrap();
    let has = |line: &str| lines.iter().any(|seen| seen.starts_with(line));
    assert!(
        has(&format!("traceparent: {TRACE}")) && has("tracestate: a=1"),
        "{lines:?}"
    );
    assert!(
        has("x-request-timeout: 9") || has("x-request-timeout: 10000m"),
        "{lines:?}"
    );
    assert!(!has("authorization") && !has("x-request-id"), "{lines:?}");
    assert_eq!(*watch.0.lock().unwrap(), ["http_client.send 1 true"]);
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    let repeats = async |request: fn(&HttpClient) -> cqi_http::ClientRequest| {
        let (address, count, _handle) = other().await;
        let result = request(&client_of(address, |_| {})).send().await;
        (result.is_ok(), count.load(Ordering::SeqCst))
    };
    assert_eq!(repeats(|client| client.get("/flaky")).await, (true, 3));
    assert_eq!(repeats(|client| client.put("/flaky")).await, (true, 3));
    assert_eq!(repeats(|client| client.post("/flaky")).await, (false, 1));
    assert_eq!(
        repeats(|client| client.post("/flaky").idempotency_key("order-7")).await,
        (true, 3)
    );
}

#[tokio::test]
async fn err_6_statuses_become_kinds() {
    let (address, _, _handle) = other().await;
    let options = HttpClientOptions::new(format!("http://{address}"));
    let client = HttpClient::new(options, Policy::new(PATIENCE, Retry::never())).unwrap();
    let cases = [
        (400, Kind::InvalidInput, None, false),
        (401, Kind::Unauthorized, None, false),
        (403, Kind::Unauthorized, Some(Code::PermissionDenied), false),
        (404, Kind::NotFound, None, false),
        (409, Kind::Permanent, Some(Code::Conflict), false),
        (412, Kind::Permanent, Some(Code::FailedPrecondition), false),
        (413, Kind::InvalidInput, Some(Code::TooLarge), false),
        (422, Kind::InvalidInput, None, false),
        (429, Kind::Temporary, Some(Code::RateLimited), false),
        (500, Kind::Permanent, None, true),
        (501, Kind::Permanent, Some(Code::Unsupported), true),
        (503, Kind::Temporary, Some(Code::Unavailable), true),
        (504, Kind::Temporary, Some(Code::Timeout), true),
    ];
    for (status, kind, code, may_have_applied) in cases {
        let error = client.get(&format!("/status/{status}")).send().await.unwrap_err();
        let seen = (error.kind(), error.code(), error.may_have_applied());
        assert_eq!(seen, (kind, code, may_have_applied), "{status}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    }
    assert_eq!(client.get("/status/304").send().await.unwrap().status(), 304);
    let error = client.get("/exists").send().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::AlreadyExists));
    assert_eq!(error.message(), "the other service answered 409");
    assert!(
        error.chain().to_string().ends_with("position 7 is there"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn an_answer_over_the_limit_is_given_up() {
    let (address, _, _handle) = other().await;
    let client = client_of(address, |options| options.max_response_bytes = 2047);
    for path in ["/large", "/endless"] {
        let error = client.get(path).send().await.unwrap_err();
        assert_eq!(error.code(), Some(Code::TooLarge), "{path}");
    }
    let client = client_of(address, |options| options.max_response_bytes = 2048);
    assert_eq!(client.get("/large").send().await.unwrap().body().len(), 2048);
}

#[tokio::test]
async fn redirects_are_followed_within_the_origin_and_when_asked_for_only() {
    let (address, _, _handle) = other().await;
    let error = client_of(address, |_| {}).get("/here").send().await.unwrap_err();
    assert_eq!(error.message(), "the other service answered 307");
    let client = client_of(address, |options| options.same_origin_redirects = true);
    assert_eq!(client.get("/here").send().await.unwrap().status(), 200);
    for path in ["/there", "/loop"] {
        let error = client.get(path).send().await.unwrap_err();
        assert_eq!(error.message(), "the other service answered 307", "{path}");
    }
}

#[tokio::test]
async fn a_service_that_is_away_or_silent_is_a_temporary_error_without_secrets() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = taken.local_addr().unwrap();
    drop(taken);
    let client = client_of(away, |_| {});
    let error = client
        .post("/x")
        .query("token", "canary")
        .send()
        .await
        .unwrap_err();
    assert!(error.is_temporary() && !error.may_have_applied(), "{error:?}");
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert!(!error.chain().to_string().contains("canary"), "{}", error.chain());

    let (address, _, _handle) = other().await;
    let options = HttpClientOptions::new(format!("http://{address}"));
    let client = HttpClient::new(options, Policy::new(SHORT, Retry::never())).unwrap();
    let error = client.get("/hang").send().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Timeout));
    assert!(error.may_have_applied());
}

#[tokio::test]
async fn a_faulty_request_is_told_before_it_is_sent() {
    let client = client_of("127.0.0.1:1".parse().unwrap(), |_| {});
    for request in [
        client.get("nowhere"),
        client.get("/").header("a b", "canary"),
        client.get("/").header("a", "canary\r\nb: c"),
        client.get("/").bearer(&"canary\n".into()),
    ] {
        let error = request.send().await.unwrap_err();
        assert!(error.is_invalid_input(), "{error:?}");
        assert!(!error.chain().to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_call_made_for_a_request_takes_its_id_deadline_and_if_asked_its_credential() {
    let (other, _, _other) = other().await;
    for propagate in [true, false] {
        let client = client_of(other, |options| options.propagate_auth = propagate);
        let router = Router::new().route(
            "/",
            get(async move || {
                let answer = client.get("/echo").send().await?;
                Ok::<_, HttpError>(Json(answer.json::<Vec<String>>()?))
            }),
        );
        let keys = ApiKeys::parse(["0123456789abcdef".into()]).unwrap();
        let server = HttpServer::new("http", router, options()).unwrap();
        let (address, _handle) = start(server.auth(Arc::new(keys)).unwrap()).await;
        let mut caller = Client::connect(address).await;
        let lines =
            "Authorization: Bearer 0123456789abcdef\r\nX-Request-Id: mine\r\nX-Request-Timeout: 3S\r\n";
        let answer = caller.get_with("/", lines).await;
        let seen: Vec<String> = serde_json::from_str(&answer.body).unwrap();
        let has = |line: &str| seen.iter().any(|seen| seen.starts_with(line));
        assert!(has("x-request-id: mine"), "{seen:?}");
        let left = seen
            .iter()
            .find_map(|line| line.strip_prefix("x-request-timeout: "));
        let left: u64 = left.unwrap().trim_end_matches('m').parse().unwrap();
        assert!((1..=3000).contains(&left), "{left}");
        assert_eq!(
            has("authorization: Bearer 0123456789abcdef"),
            propagate,
            "{seen:?}"
        );
    }
}

/// A request or event of any protocol.
fn scope(left: Duration) -> Scope {
    Scope::default()
        .until(Some(Instant::now() + left))
        .with_id(RequestId::parse("mine").unwrap())
        .with_credential(Arc::new("canary".into()))
}

#[tokio::test]
async fn f_net_03_a_call_takes_along_what_is_known_whatever_the_protocol_it_came_by() {
    let (address, _, _handle) = other().await;
    let client = client_of(address, |options| options.propagate_auth = true);
    let calling = client.get("/echo").send();
    let answer = scope(Duration::from_secs(3)).run(calling).await.unwrap();
    let lines: Vec<String> = answer.json().unwrap();
    for line in ["x-request-id: mine", "authorization: Bearer canary"] {
        assert!(lines.iter().any(|seen| seen == line), "{line} in {lines:?}");
    }
    let left = lines
        .iter()
        .find_map(|line| line.strip_prefix("x-request-timeout: "));
    let left: u64 = left.unwrap().trim_end_matches('m').parse().unwrap();
    assert!((1..=3000).contains(&left), "{left}");
}

#[tokio::test]
async fn f_net_03_a_call_that_the_callers_deadline_ends_is_observed() {
    let (address, count, _handle) = other().await;
    let watch = Arc::new(Watch::default());
    let observer: Arc<dyn Observer> = Arc::<Watch>::clone(&watch);
    let options = HttpClientOptions::new(format!("http://{address}"));
    let client = HttpClient::new(options, policy().with_observer(observer)).unwrap();
    let error = scope(SHORT).run(client.get("/hang").send()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_applied()),
        (Some(Code::Timeout), true)
    );
    // Without any time left nothing is sent.
    let error = scope(Duration::ZERO)
        .run(client.get("/flaky").send())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_applied()),
        (Some(Code::Timeout), false)
    );
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(
        *watch.0.lock().unwrap(),
        ["http_client.send 1 false", "http_client.send 0 false"]
    );
}
