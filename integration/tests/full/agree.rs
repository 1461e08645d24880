//! One request gives a log line, a metric and a span that agree, through HTTP, gRPC and the event to its consumer.

use serde_json::{Value, json};

use crate::{
    KEY, KEYS, call,
    collector::{Collector, Seen},
    has_clients,
    support::{Process, ask, position, post, python, until},
    with_token,
};

#[tokio::test]
async fn ml_trc_4_mw_3_log_line_metric_and_span_of_http_and_its_event_agree() {
    let collector = Collector::start().await;
    let service = start(&collector).await;
    let answer = ask(service.http(), with_token(&post(&position("p", "a", 1)), KEY)).await;
    assert_eq!(answer.status, 201, "{answer:?}");

    let line = line(&service, "request", "path", "/api/positions").await;
    assert_eq!(
        (&line["status"], &line["route"]),
        (&json!(201), &json!("/api/positions"))
    );
    let metrics = ask(service.admin(), "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .body;
    let counted =
        "positions_http_request_count_total{method=\"POST\",path=\"/api/positions\",status_code=\"201\"} 1";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    let consumed = consumed(&service, &line).await;

    service.stop().await; // sends what has not been sent
    let spans = collector.trace(text(&line["trace_id"]));
    let server = span(&spans, "POST /api/positions");
    assert_eq!(server.id, text(&line["span_id"]), "{spans:#?}");
    assert_eq!(server.attribute("http.route"), Some("/api/positions"));
    assert_eq!(server.attribute("http.response.status_code"), Some("201"));
    follows(&spans, &consumed);
}

#[tokio::test]
async fn ml_trc_4_mw_3_log_line_metric_and_span_of_grpc_and_its_event_agree() {
    if !has_clients() {
        return;
    }
    const METHOD: &str = "cqi.examples.positions.v1.Positions/SetPosition";
    let collector = Collector::start().await;
    let service = start(&collector).await;
    let request = json!({"portfolio_id": "p", "asset_id": "a", "quantity": "1"});
    let called = python(
        "grpc_client.py",
        &[&service.grpc().to_string()],
        &call(METHOD, &request, KEY),
    );
    assert!(called[0].contains("\"OK\""), "{called:?}");

    let line = line(&service, "call", "method", METHOD).await;
    assert_eq!(line["status"], "OK");
    let metrics = ask(service.admin(), "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .body;
    let counted = format!("positions_grpc_call_count_total{{method=\"{METHOD}\",status_code=\"OK\"}} 1");
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    let consumed = consumed(&service, &line).await;

    service.stop().await;
    let spans = collector.trace(text(&line["trace_id"]));
    let server = span(&spans, METHOD);
    assert_eq!(server.id, text(&line["span_id"]), "{spans:#?}");
    assert_eq!(server.attribute("rpc.method"), Some("SetPosition"));
    follows(&spans, &consumed);
}

#[tokio::test]
async fn ml_trc_5_a_collector_that_is_down_costs_requests_nothing() {
    // A port that nobody listens on.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = taken.local_addr().unwrap().to_string();
    drop(taken);
    let service = Process::full(&[KEYS, ("CQI_TRACING_ENDPOINT", &endpoint)]).await;
    for n in 0..50 {
        let answer = ask(service.http(), with_token(&post(&position("p", "a", n)), KEY)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    service.terminate();
    let ended = service.ended().await;
    assert!(
        ended.said().contains("spans"),
        "what was lost is said: {}",
        ended.said()
    );
}

async fn start(collector: &Collector) -> Process {
    Process::full(&[KEYS, ("CQI_TRACING_ENDPOINT", &collector.endpoint())]).await
}

/// Waits for the log line with this message and field.
async fn line(service: &Process, message: &str, field: &str, value: &str) -> Value {
    until(&format!("a line of {value}"), || {
        let log = service.log();
        let found = log
            .iter()
            .find(|line| line["message"] == message && line[field] == value)
            .cloned();
        found.ok_or(log)
    })
    .await
}

/// Waits for the consumer's line in the trace of this one.
async fn consumed(service: &Process, line: &Value) -> Value {
    let consumed = service.line_with("position changed").await;
    assert_eq!(consumed["trace_id"], line["trace_id"]);
    consumed
}

/// The consumer's span is there, and hangs below others of its trace.
fn follows(spans: &[Seen], consumed: &Value) {
    let consumer = spans.iter().find(|span| span.id == text(&consumed["span_id"]));
    let consumer = consumer.unwrap_or_else(|| panic!("no span of {consumed} in {spans:#?}"));
    let topic = consumer.attribute("messaging.destination.name");
    assert_eq!(topic, Some("cqc.events.v1.position_changed"), "{consumer:?}");
    assert!(
        spans.iter().any(|span| span.id == consumer.parent),
        "the trace is in one piece: {spans:#?}"
    );
}

fn span<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
