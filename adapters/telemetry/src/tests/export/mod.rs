//! Spans as a collector gets them.

mod collector;
mod faults;
mod shapes;
mod tls;

use std::time::Duration;

use cqi_core::{
    config::{LogConfig, MetricsConfig, TracingConfig},
    trace::TraceContext,
};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use tracing::{Dispatch, info_span};

pub(super) use self::collector::until;
use self::collector::{Answer, Collector, attributes};
use crate::{ExportOptions, ServiceIdentity, Telemetry, TelemetryOptions, log::Output};

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const LIMIT: Duration = Duration::from_secs(10);

/// Telemetry that exports, and its log.
struct Exporting {
    telemetry: Telemetry,
    dispatch: Dispatch,
    log: tempfile::NamedTempFile,
}

impl Exporting {
    fn to(endpoint: &str, export: ExportOptions) -> Self {
        Self::sampling(endpoint, export, 1.0)
    }

    fn sampling(endpoint: &str, export: ExportOptions, sample_rate: f64) -> Self {
        let tracing = TracingConfig {
            endpoint: endpoint.into(),
            sample_rate,
            ..TracingConfig::default()
        };
        Self::configured(&tracing, export)
    }

    fn configured(tracing: &TracingConfig, export: ExportOptions) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let service = ServiceIdentity::new("my-shop")
            .with_version("1.2")
            .with_instance("a-1");
        let options = TelemetryOptions {
            export,
            ..TelemetryOptions::default()
        };
        let output = Output::open(log.path().to_str().unwrap()).unwrap();
        let (log_config, metrics) = (LogConfig::default(), MetricsConfig::default());
        let (telemetry, subscriber) =
            Telemetry::build_with(&log_config, &metrics, tracing, service, options, output).unwrap();
        Self {
            telemetry,
            dispatch: Dispatch::new(subscriber),
            log,
        }
    }

    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, work)
    }

    /// Ends so many spans.
    fn spans(&self, count: usize) {
        self.run(|| (0..count).for_each(|_| drop(info_span!("work"))));
    }

    fn lines(&self, message: &str) -> usize {
        self.telemetry.log_handle().flush(LIMIT).unwrap();
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        text.lines().filter(|line| line.contains(message)).count()
    }

    fn metric(&self, series: &str) -> u64 {
        let text = self.telemetry.metrics().render();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("my_shop_tracing_")?.strip_prefix(series));
        found
            .unwrap_or_else(|| panic!("no {series} in {text}"))
            .trim()
            .parse()
            .unwrap()
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn trc_2_4_ml_trc_3_spans_arrive_by_grpc_in_the_words_of_opentelemetry() {
    let collector = Collector::grpc(Answer::Take).await;
    let options = ExportOptions {
        environment: "test".into(),
        headers: vec![("authorization".into(), "Bearer t".into())],
        ..ExportOptions::default()
    };
    let rig = Exporting::to(&collector.address.to_string(), options);
    let observer = rig.telemetry.observer();
    let before = jiff::Timestamp::now().as_nanosecond();
    rig.run(|| {
        let parent = TraceContext::parse(INCOMING, Some("vendor=1"));
        let request = observer.continue_trace(parent, &mut || {
            info_span!(
                "request",
                method = "GET",
                path = "/a/17",
                route = "/a/{id}",
                request_id = "r1",
                status_code = tracing::field::Empty
            )
        });
        request.record("status_code", 503);
        request.in_scope(|| drop(info_span!("work", big = u64::MAX, ratio = 0.5, yes = true)));
    });
    rig.telemetry.shutdown(LIMIT).await.unwrap();

    let requests = collector.requests();
    assert_eq!((requests.len(), requests[0].resource_spans.len()), (1, 1));
    assert_eq!(collector.tokens(), ["Bearer t"]);
    let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
    let resource = attributes(&resource.attributes);
    for (name, value) in [
        ("service.name", "my-shop"),
        ("service.version", "1.2"),
        ("service.instance.id", "a-1"),
        ("deployment.environment.name", "test"),
    ] {
        assert_eq!(resource[name], value);
    }
    let scope = requests[0].resource_spans[0].scope_spans[0]
        .scope
        .as_ref()
        .unwrap();
    assert_eq!(scope.name, "cqi_telemetry::tests::export");

    let (request, work) = (collector.span("GET /a/{id}"), collector.span("work"));
    assert_eq!(hex(&request.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(
        (
            hex(&request.parent_span_id).as_str(),
            request.trace_state.as_str()
        ),
        ("b7ad6b7169203331", "vendor=1")
    );
    assert_eq!(
        (&work.trace_id, &work.parent_span_id),
        (&request.trace_id, &request.span_id)
    );
    assert_eq!(
        (request.kind(), work.kind()),
        (SpanKind::Server, SpanKind::Internal)
    );
    assert_eq!(request.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(work.status, None);
    assert!(i128::from(request.start_time_unix_nano) >= before);
    assert!(request.end_time_unix_nano >= work.end_time_unix_nano && work.start_time_unix_nano > 0);
    let known = attributes(&request.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/a/17"),
        ("http.route", "/a/{id}"),
        ("http.response.status_code", "int 503"),
        ("error.type", "503"),
        ("request_id", "r1"),
    ] {
        assert_eq!(known[name], value);
    }
    assert_eq!(known.len(), 6, "{known:?}");
    let known = attributes(&work.attributes);
    assert_eq!(
        (
            known["big"].as_str(),
            known["ratio"].as_str(),
            known["yes"].as_str()
        ),
        ("18446744073709551615", "double 0.5", "bool true")
    );
    assert_eq!(
        (
            rig.metric("spans_exported_total"),
            rig.metric("spans_dropped_total{reason=\"queue_full\"}")
        ),
        (2, 0)
    );
}

#[tokio::test]
async fn trc_2_spans_arrive_by_http() {
    let collector = Collector::http(Answer::Take).await;
    let tracing = TracingConfig {
        endpoint: format!("http://{}/v1/traces", collector.address),
        headers: vec!["authorization=Bearer t".into()],
        sample_rate: 1.0,
        ..TracingConfig::default()
    };
    let options = ExportOptions {
        headers: vec![("authorization".into(), "Bearer replaced".into())],
        ..ExportOptions::default()
    };
    let rig = Exporting::configured(&tracing, options);
    rig.run(|| info_span!("outer").in_scope(|| drop(info_span!("inner"))));
    rig.telemetry.shutdown(LIMIT).await.unwrap();
    let (outer, inner) = (collector.span("outer"), collector.span("inner"));
    assert_eq!(
        (&inner.trace_id, &inner.parent_span_id),
        (&outer.trace_id, &outer.span_id)
    );
    assert_eq!(collector.tokens(), ["bearer t"], "the head is in lower case here");
}

#[tokio::test]
async fn trc_8_always_never_a_share_and_the_callers_decision() {
    let unsampled = INCOMING.replace("-01", "-00");
    for (rate, low, high) in [(1.0, 200, 200), (0.0, 0, 0), (0.5, 50, 150)] {
        let collector = Collector::grpc(Answer::Take).await;
        let rig = Exporting::sampling(&collector.address.to_string(), ExportOptions::default(), rate);
        rig.spans(200);
        let observer = rig.telemetry.observer();
        for incoming in [INCOMING, unsampled.as_str()] {
            rig.run(|| {
                let parent = TraceContext::parse(incoming, None);
                let span = observer.continue_trace(parent, &mut || info_span!("asked", incoming));
                span.in_scope(|| assert_eq!(observer.records_trace(), incoming == INCOMING));
            });
        }
        rig.telemetry.shutdown(LIMIT).await.unwrap();
        let own = collector
            .spans()
            .iter()
            .filter(|span| span.name == "work")
            .count();
        assert!((low..=high).contains(&own), "{rate}: {own}");
        let asked: Vec<_> = collector
            .spans()
            .into_iter()
            .filter(|span| span.name == "asked")
            .collect();
        assert_eq!(asked.len(), 1, "{rate}: the caller's decision holds, both ways");
        assert_eq!(attributes(&asked[0].attributes)["incoming"], INCOMING);
    }
}

#[test]
fn trc_9_shutdown_flushes_on_any_flavour() {
    let current = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let multi = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
    };
    let paused = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
    };
    // The collector is a program of its own.
    let elsewhere = multi().unwrap();
    for runtime in [current().unwrap(), multi().unwrap(), paused().unwrap()] {
        for http in [false, true] {
            let collector = elsewhere.block_on(async {
                if http {
                    Collector::http(Answer::Take).await
                } else {
                    Collector::grpc(Answer::Take).await
                }
            });
            let path = if http { "/v1/traces" } else { "" };
            // Nothing but the flush sends the last of them so early.
            let options = ExportOptions {
                delay: Duration::from_secs(3600),
                ..ExportOptions::default()
            };
            let rig = Exporting::to(&format!("http://{}{path}", collector.address), options);
            runtime.block_on(async {
                rig.spans(1300);
                rig.telemetry.shutdown(LIMIT).await.unwrap();
                rig.telemetry.shutdown(LIMIT).await.unwrap();
            });
            assert_eq!(collector.spans().len(), 1300);
            assert!(collector.requests().len() >= 3, "no batch has more than 512");
            rig.spans(2);
            assert_eq!(
                rig.metric("spans_dropped_total{reason=\"queue_full\"}"),
                2,
                "after the end"
            );
        }
    }
}

#[tokio::test]
async fn spans_leave_in_time_and_the_exporter_does_not_trace_itself() {
    let collector = Collector::grpc(Answer::Take).await;
    let options = ExportOptions {
        delay: Duration::from_millis(20),
        ..ExportOptions::default()
    };
    let rig = Exporting::to(&collector.address.to_string(), options);
    rig.telemetry.log_handle().set_level("trace").unwrap();
    rig.spans(3);
    collector.until(3).await;
    rig.spans(3);
    collector.until(6).await;
    rig.telemetry.shutdown(LIMIT).await.unwrap();
    assert_eq!(collector.spans().len(), 6);
    assert!(collector.spans().iter().all(|span| span.name == "work"));
    assert_eq!(rig.lines(""), 0, "nor does it log what its client does");
}

#[tokio::test]
async fn an_exporter_that_is_dropped_sends_what_it_has_and_ends() {
    let collector = Collector::grpc(Answer::Take).await;
    let rig = Exporting::to(&collector.address.to_string(), ExportOptions::default());
    rig.spans(5);
    drop(rig);
    collector.until(5).await;
}

#[test]
fn trc_1_a_bad_configuration_is_an_error() {
    for (endpoint, sample_rate) in [("ftp://x", 1.0), ("", 1.5), ("", f64::NAN)] {
        let tracing = TracingConfig {
            endpoint: endpoint.into(),
            sample_rate,
            ..TracingConfig::default()
        };
        let output = Output::open("/dev/null").unwrap();
        let built = Telemetry::build_with(
            &LogConfig::default(),
            &MetricsConfig::default(),
            &tracing,
            ServiceIdentity::new("shop"),
            TelemetryOptions::default(),
            output,
        );
        assert!(
            built.is_err_and(|error| error.is_invalid_input()),
            "{endpoint} {sample_rate}"
        );
    }
}
