//! The standard stack.

use std::{
    io::Write,
    sync::{Arc, Mutex, OnceLock},
};

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use cqi_core::{Error, observe::Observer};
use cqi_http::{HttpOptions, Json, Path, Query, RequestId, Result, Stack};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};
use tower::{Layer, Service, ServiceExt};

use crate::support::{Client, Notes, SHORT, ask, observed, options};

const NOT_FOUND: &str = r#"{"error":"no such resource","code":"NOT_FOUND"}"#;

async fn panics() -> &'static str {
    panic!("a secret")
}

async fn asset(Path(id): Path<u32>) -> Result<Json<u32>> {
    match id {
        7 => Ok(Json(id)),
        _ => Err(Error::not_found("asset", id).into()),
    }
}

fn router() -> Router {
    let assets = Router::new().route("/assets/{id}", get(asset));
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", post(|body: String| async { body }))
        .route("/panic", get(panics))
        .route("/slow", get(std::future::pending::<()>))
        .route("/empty", get(|| async { http::StatusCode::CONFLICT }))
        .route(
            "/query",
            get(|Query(sum): Query<Vec<(String, u32)>>| async move { sum.len().to_string() }),
        )
        .route(
            "/id",
            get(|id: axum::Extension<RequestId>| async move { id.as_str().to_owned() }),
        )
        .nest("/api", assets)
}

#[tokio::test]
async fn met_7_8_labels_are_templates_and_never_paths() {
    let (address, _handle, notes) = observed(router(), options()).await;
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/api/assets/7").await.body, "7");
    assert_eq!(
        client.get("/api/assets/8").await.body,
        r#"{"error":"asset 8 not found","code":"NOT_FOUND"}"#
    );
    assert_eq!(client.get("/nowhere/secret").await.body, NOT_FOUND);
    client
        .send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    assert_eq!(client.answer().await.unwrap().body, "abc");
    client
        .send("INVENTED /api/assets/7 HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.unwrap().status, 405);
    assert_eq!(
        notes.all(),
        [
            "http GET /api/assets/{id} 200 in=0 out=1",
            "http GET /api/assets/{id} 404 in=0 out=48",
            "http GET unmatched 404 in=0 out=47",
            "http POST /echo 200 in=3 out=3",
            "http OTHER /api/assets/{id} 405 in=0 out=53",
        ]
    );
}

#[tokio::test]
async fn ml_http_3_unknown_paths_and_methods_have_the_standard_body() {
    let (address, _handle, _) = observed(router(), options()).await;
    let mut client = Client::connect(address).await;
    let answer = client.get("/nowhere").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, NOT_FOUND));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = client.get("/echo").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(
        answer.body,
        r#"{"error":"method not allowed","code":"INVALID_INPUT"}"#
    );
    let answer = client.get("/empty").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (409, r#"{"error":"Conflict","code":"CONFLICT"}"#)
    );
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_refused_without_an_echo() {
    let (address, _handle, _) = observed(router(), options()).await;
    let mut client = Client::connect(address).await;
    let answer = client.get("/api/assets/secret").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        r#"{"error":"path parameter must be u32","code":"INVALID_INPUT"}"#
    );
    let answer = client.get("/query?a=secret").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        r#"{"error":"query parameters do not fit","code":"INVALID_INPUT"}"#
    );
    assert_eq!(client.get("/query?a=1&b=2").await.body, "2");
}

#[tokio::test]
async fn err_11_12_h_18_a_panic_is_answered_and_counted_and_the_connection_lives_on() {
    let (address, _handle, notes) = observed(router(), options()).await;
    let mut client = Client::connect(address).await;
    let answer = client.get("/panic").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (500, r#"{"error":"internal error","code":"PERMANENT"}"#)
    );
    assert_eq!(client.get("/").await.body, "hello");
    assert_eq!(
        notes.all()[..2],
        ["panic http", "http GET /panic 500 in=0 out=45"]
    );
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_dropped_and_answered() {
    let options = HttpOptions {
        request_timeout: SHORT,
        ..options()
    };
    let (address, _handle, notes) = observed(router(), options).await;
    let mut client = Client::connect(address).await;
    let answer = client.get("/slow").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (504, r#"{"error":"no answer within 200ms","code":"TIMEOUT"}"#)
    );
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(notes.all()[0], "http GET /slow 504 in=0 out=51");
}

#[tokio::test]
async fn h_19_f_net_01_a_client_that_is_gone_is_counted() {
    let (address, _handle, notes) = observed(router(), options()).await;
    let mut client = Client::connect(address).await;
    client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    drop(client);
    notes.wait_for("http GET /slow 499").await;
}

#[tokio::test]
async fn request_ids_are_taken_over_or_made_up_and_echoed() {
    let (address, _handle, _) = observed(router(), options()).await;
    let answer = ask(
        address,
        "GET /id HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc-1\r\n\r\n",
    )
    .await;
    assert_eq!(
        (answer.header("x-request-id"), answer.body.as_str()),
        (Some("abc-1"), "abc-1")
    );
    let answer = ask(
        address,
        "GET /id HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\"b\r\n\r\n",
    )
    .await;
    assert_eq!(answer.header("x-request-id"), Some(answer.body.as_str()));
    assert_eq!(answer.body.len(), 32);
}

#[tokio::test]
async fn trc_4_the_trace_that_comes_in_is_continued() {
    let (address, _handle, notes) = observed(router(), options()).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    ask(
        address,
        format!("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {parent}\r\n\r\n"),
    )
    .await;
    ask(
        address,
        "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: nonsense\r\n\r\n",
    )
    .await;
    let traces: Vec<String> = notes
        .all()
        .into_iter()
        .filter(|note| note.starts_with("trace"))
        .collect();
    assert_eq!(traces, [format!("trace {parent}")]);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Collects the log of this thread as JSON values.
    fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        // With one subscriber only, tracing would ask the thread that comes to a log line first whether anybody wants
        // it, and that may be another test's.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn values(&self, message: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
        values
            .filter(|value: &serde_json::Value| value["fields"]["message"] == message)
            .collect()
    }
}

#[tokio::test]
async fn log_9_trc_6_start_and_end_are_logged_with_what_is_known() {
    let (lines, _guard) = Lines::collect();
    let (address, _handle, _) = observed(router(), options()).await;
    let mut client = Client::connect(address).await;
    client.get("/api/assets/7?token=secret").await;
    client.get("/panic").await;
    let [start, ..] = &lines.values("request started")[..] else {
        panic!("no start")
    };
    assert_eq!(start["level"], "DEBUG");
    let ends = lines.values("request");
    let [end, panicked] = &ends[..] else {
        panic!("{ends:?}")
    };
    assert_eq!(end["level"], "INFO");
    assert_eq!(end["fields"]["status"], 200);
    assert!(end["fields"]["duration_ms"].as_f64().unwrap() > 0.0);
    let span = &end["span"];
    assert_eq!(
        (&span["name"], &span["method"]),
        (&"request".into(), &"GET".into())
    );
    assert_eq!(
        (&span["path"], &span["route"]),
        (&"/api/assets/7".into(), &"/api/assets/{id}".into())
    );
    assert_eq!(span["request_id"].as_str().unwrap().len(), 32);
    assert_eq!(panicked["fields"]["status"], 500);
    let failed = lines.values("request failed");
    assert_eq!(failed[0]["fields"]["error"], "the handler panicked");
    assert_eq!(failed[0]["span"]["request_id"], panicked["span"]["request_id"]);
}

#[tokio::test]
async fn h_18_a_panic_in_the_middle_of_a_response_is_in_the_log_on_every_protocol() {
    let (lines, _guard) = Lines::collect();
    let body = || async {
        let parts = futures::stream::iter([true, false]).map(|fine| {
            assert!(fine, "a secret");
            Ok::<_, std::io::Error>("part")
        });
        Body::from_stream(parts)
    };
    let router = Router::new().route("/", get(body));
    let (address, _handle, _notes) = observed(router, options()).await;
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.closed().await;
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), io);
    let (mut sender, connection) = handshake.await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let uri = format!("http://{address}/");
    let request = http::Request::get(uri).body(Body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(lines.values("a connection's task panicked").len(), 1);
    assert_eq!(lines.values("a response panicked in its middle").len(), 1);
}

#[tokio::test]
async fn what_clients_cause_at_will_is_no_error_of_the_log() {
    let (lines, _guard) = Lines::collect();
    let (address, _handle, notes) = observed(router(), options()).await;
    let mut client = Client::connect(address).await;
    for timeout in ["0m", "1m"] {
        let line = format!("X-Request-Timeout: {timeout}\r\n");
        assert_eq!(client.get_with("/slow", &line).await.status, 504);
    }
    assert_eq!(
        client.get_with("/", "Content-Encoding: gzip\r\n").await.status,
        415
    );
    assert_eq!(notes.all().len(), 3, "they are counted");
    assert_eq!(lines.values("request").len(), 3, "and have their line");
    assert!(lines.values("request failed").is_empty());
    assert_eq!(lines.values("request refused").len(), 1);
}

/// Refuses everything, as an authentication layer without a token does.
#[derive(Clone)]
struct Refuse;

impl<S> Layer<S> for Refuse {
    type Service = tower::util::MapResponse<S, fn(axum::response::Response) -> axum::response::Response>;

    fn layer(&self, inner: S) -> Self::Service {
        tower::util::MapResponse::new(inner, |mut response| {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            response
        })
    }
}

#[tokio::test]
async fn mw_1_parts_compose_from_the_outside_in() {
    let (lines, _guard) = Lines::collect();
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn Observer> = Arc::<Notes>::clone(&notes);
    let mut stack: Router = Router::new()
        .route("/panic", get(panics))
        .layer(Stack::recovery(Arc::clone(&observer)))
        .layer(Stack::logging())
        .layer(Stack::metrics(Arc::clone(&observer)))
        .layer(Refuse)
        .layer(Stack::tracing(observer));
    let request = http::Request::get("/panic").body(Body::empty()).unwrap();
    let response = ServiceExt::<http::Request<Body>>::ready(&mut stack)
        .await
        .unwrap();
    let response = response.call(request).await.unwrap();
    // Authentication is outside of metrics and logging, which see what the recovery made of the panic.
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(notes.all(), ["panic http", "http GET /panic 500 in=0 out=45"]);
    let ends = lines.values("request");
    assert_eq!(ends[0]["fields"]["status"], 500);
    assert_eq!(
        (&ends[0]["fields"]["method"], &ends[0]["fields"]["path"]),
        (&"GET".into(), &"/panic".into())
    );
    assert_eq!(ends[0]["span"]["route"], "/panic");
}
