//! What an operator sees of the quickstart: probes, metrics, and log lines that belong together.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Client, Process, ask, position, post, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn hlt_4_readiness_ends_before_requests_do() {
    let service = Process::quickstart(&[("CQI_SERVER_SHUTDOWN_DELAY", "2s")]).await;
    let mut client = Client::connect(service.http()).await.unwrap();
    let mut operator = Client::connect(service.admin()).await.unwrap();
    for path in ["/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(client.get(path).await.unwrap().status, 200, "{path}");
        assert_eq!(operator.get(path).await.unwrap().status, 200, "{path}");
    }
    let detail = operator.get("/health").await.unwrap();
    assert_eq!(
        (detail.status, &detail.json()["status"]),
        (200, &Value::from("healthy"))
    );

    service.terminate();
    service.line_with("stop: draining").await;
    for address in [service.http(), service.admin()] {
        let ready = ask(address, "GET /health/ready HTTP/1.1\r\nhost: test\r\n\r\n").await;
        assert_eq!(
            (ready.status, ready.header("cache-control")),
            (503, Some("no-store"))
        );
    }
    assert_eq!(client.get("/health/live").await.unwrap().status, 200);
    // Load balancers have not noticed yet, so work goes on.
    assert_eq!(
        client.request(post(&position("p", "a", 1))).await.unwrap().status,
        201
    );
    let ended = service.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.said());
}

#[tokio::test]
async fn ml_test_7_metric_log_line_and_event_of_one_request_agree() {
    let service = Process::quickstart(&[("LOG_LEVEL", "debug")]).await;
    let request = post(&position("p", "a", 1));
    let header = format!("\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    let answer = ask(service.http(), request.replacen("\r\n", &header, 1)).await;
    assert_eq!(answer.status, 201);

    // ML-TRC-4: the access log, what was published, and what the subscriber did, in one trace.
    let line = |message: &'static str| {
        let service = &service;
        until(message, move || {
            let log = service.log();
            let found = log
                .iter()
                .find(|line| line["message"] == message && line["trace_id"] == TRACE);
            found.cloned().ok_or(log)
        })
    };
    let access = line("request").await;
    assert_eq!(access["status"], 201);
    assert_eq!(access["method"], "POST");
    assert_eq!(access["route"], "/api/positions");
    assert_eq!(access["request_id"], answer.header("x-request-id").unwrap());
    // BUS-7, BUS-11: of both ends, without code in the service.
    let published = line("published").await;
    assert_eq!(published["span_id"], access["span_id"]);
    let handled = line("event handled").await;
    assert_ne!(handled["span_id"], access["span_id"]);
    assert_eq!(handled["topic"], "cqc.events.v1.position_changed");
    let size = published["bytes"].as_u64().unwrap();
    assert!(size > 0 && handled["bytes"] == size, "{published} {handled}");

    // The span has the trace, route and status of the line; the metric has route and status.
    let metrics = scrape(&service).await;
    let labels = r#"method="POST",path="/api/positions",status_code="201""#;
    assert_eq!(metrics.value("positions_http_request_count_total", labels), 1.0);
    assert_eq!(
        metrics.value("positions_http_request_duration_seconds_count", labels),
        1.0
    );
    let labels = r#"error_type="none",topic="cqc.events.v1.position_changed""#;
    assert_eq!(
        metrics.value("positions_bus_messages_published_total", labels),
        1.0
    );
    assert_eq!(
        metrics.value("positions_bus_messages_consumed_total", labels),
        1.0
    );
    service.stop().await;
}

#[tokio::test]
async fn met_5_routes_are_labelled_by_template_and_methods_are_few() {
    let service = Process::quickstart(&[]).await;
    let mut client = Client::connect(service.http()).await.unwrap();
    for n in 0..20 {
        client.get(&format!("/api/positions/p/{n}")).await.unwrap();
        client.get(&format!("/nowhere/{n}")).await.unwrap();
        client
            .request(format!("BREW{n} /nowhere HTTP/1.1\r\nhost: test\r\n\r\n"))
            .await
            .unwrap();
    }
    let metrics = scrape(&service).await;
    let count = "positions_http_request_count_total";
    let position = r#"method="GET",path="/api/positions/{portfolio_id}/{asset_id}",status_code="404""#;
    assert_eq!(metrics.value(count, position), 20.0);
    assert_eq!(
        metrics.value(count, r#"method="GET",path="unmatched",status_code="404""#),
        20.0
    );
    assert_eq!(
        metrics.value(count, r#"method="OTHER",path="unmatched",status_code="404""#),
        20.0
    );
    let series = metrics
        .samples
        .keys()
        .filter(|key| key.starts_with(count))
        .count();
    assert_eq!(series, 3, "{:?}", metrics.samples.keys());
    for name in [
        "positions_http_request_size_bytes",
        "positions_http_response_size_bytes",
        "positions_cache_lookups_total",
        "positions_database_call_duration_seconds",
        "positions_bus_call_duration_seconds",
        "positions_retry_attempts_total",
    ] {
        assert!(
            metrics.families.contains_key(name),
            "no {name} in {:?}",
            metrics.families.keys()
        );
    }
    service.stop().await;
}

/// Metrics in the text format of Prometheus, checked while they are read.
#[derive(Debug, Default)]
struct Metrics {
    /// Kinds by name.
    families: BTreeMap<String, String>,
    /// Values by `name{labels}`.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    fn value(&self, name: &str, labels: &str) -> f64 {
        let key = format!("{name}{{{labels}}}");
        *self
            .samples
            .get(&key)
            .unwrap_or_else(|| panic!("no {key} in {:#?}", self.samples.keys()))
    }

    fn read(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').expect("a kind");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let before = metrics.families.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} stands twice");
            } else if !line.starts_with("# HELP ") {
                let (key, value) = line
                    .rsplit_once(' ')
                    .unwrap_or_else(|| panic!("no value in {line}"));
                let value = value.parse().unwrap_or_else(|error| panic!("{error} in {line}"));
                let name = key.split('{').next().unwrap();
                assert!(metrics.family(name).is_some(), "{line} has no type");
                let before = metrics.samples.insert(key.to_owned(), value);
                assert_eq!(before, None, "{key} stands twice");
            }
        }
        assert!(text.ends_with('\n'), "the last line is not complete");
        metrics
    }

    fn family(&self, sample: &str) -> Option<&String> {
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| sample.strip_suffix(end));
        let mut names = std::iter::once(sample).chain(of_histogram);
        names.find_map(|name| self.families.get(name))
    }
}

async fn scrape(service: &Process) -> Metrics {
    let answer = ask(service.admin(), "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain")),
        "{answer:?}"
    );
    Metrics::read(&answer.body)
}
