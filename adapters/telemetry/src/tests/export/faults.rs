//! Collectors that are down, slow or unwilling.

use tokio::time::Instant;
use tonic::Status;

use super::*;

const FAILING: &str = "traces cannot be exported";

fn impatient() -> ExportOptions {
    ExportOptions {
        queue: 100,
        batch: 10,
        delay: Duration::from_millis(1),
        backoff: Duration::from_millis(1),
        attempts: 2,
        ..ExportOptions::default()
    }
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn l_09_ml_trc_5_a_dead_collector_costs_a_warning_and_counted_spans() {
    for path in ["", "/v1/traces"] {
        let rig = Exporting::to(&format!("http://{}{path}", nowhere()), impatient());
        for round in 1..=5 {
            rig.spans(10);
            until(|| rig.metric("spans_dropped_total{reason=\"export_failed\"}") >= round * 10).await;
        }
        assert_eq!(rig.lines(FAILING), 1, "one line, then once a minute");
        assert_eq!(rig.metric("spans_exported_total"), 0);

        let options = ExportOptions {
            batch: 80, // of which an eighth is sent at once
            delay: Duration::from_secs(3600),
            ..impatient()
        };
        let rig = Exporting::to(&format!("http://{}{path}", nowhere()), options);
        rig.spans(7);
        let error = rig.telemetry.shutdown(LIMIT).await.unwrap_err();
        assert!(
            error.is_temporary() && error.to_string().contains("spans=7"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn l_09_a_million_spans_to_a_collector_that_hangs_wait_in_a_bounded_queue() {
    let collector = Collector::grpc(Answer::Hang).await;
    let rig = Exporting::to(&collector.address.to_string(), impatient());
    const SPANS: usize = 1_000_000;
    let started = Instant::now();
    rig.spans(SPANS);
    let each = started.elapsed() / u32::try_from(SPANS).unwrap();
    assert!(each < Duration::from_micros(100), "a span took {each:?}");
    let dropped = |reason| rig.metric(&format!("spans_dropped_total{{reason=\"{reason}\"}}"));
    let kept = SPANS as u64 - dropped("queue_full") - dropped("export_failed");
    // One batch is on its way.
    assert!(kept <= 110, "{kept}");
    let started = Instant::now();
    let error = rig
        .telemetry
        .shutdown(Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "the deadline holds");
    assert!(error.is_temporary(), "{error}");
}

#[tokio::test]
async fn ml_trc_5_a_shutdown_without_a_limit_sends_everything() {
    let collector = Collector::grpc(Answer::Take).await;
    let rig = Exporting::to(&collector.address.to_string(), ExportOptions::default());
    rig.spans(7);
    rig.telemetry.shutdown(Duration::MAX).await.unwrap();
    assert_eq!(rig.metric("spans_exported_total"), 7);
}

#[tokio::test]
async fn what_is_enough_is_sent_however_many_spans_end_at_once() {
    const THREADS: usize = 4;
    const EACH: usize = 200;
    const ENOUGH: usize = 2;
    let collector = Collector::grpc(Answer::Take).await;
    let options = ExportOptions {
        queue: THREADS * EACH,
        batch: 8 * ENOUGH,
        delay: Duration::from_secs(3600), // nothing is sent for the time that it waits
        ..ExportOptions::default()
    };
    let rig = Exporting::to(&collector.address.to_string(), options);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| rig.spans(EACH));
        }
    });
    until(|| collector.spans().len() > THREADS * EACH - ENOUGH).await;
    rig.telemetry.shutdown(LIMIT).await.unwrap();
    assert_eq!(collector.spans().len(), THREADS * EACH);
}

#[tokio::test]
async fn a_failure_that_passes_loses_nothing() {
    let collector = Collector::grpc(Answer::Fail(Status::unavailable("starting"))).await;
    let options = ExportOptions {
        attempts: 10_000,
        ..impatient()
    };
    let rig = Exporting::to(&collector.address.to_string(), options);
    rig.spans(30);
    until(|| rig.lines(FAILING) == 1).await;
    collector.answers(Answer::Take);
    collector.until(30).await;
    rig.telemetry.shutdown(LIMIT).await.unwrap();
    assert_eq!(rig.lines("traces are exported again"), 1);
    assert_eq!(rig.metric("spans_exported_total"), 30);
}

#[tokio::test]
async fn a_refusal_for_good_is_not_repeated() {
    let refusal = || Answer::Fail(Status::invalid_argument("no"));
    for http in [false, true] {
        let collector = if http {
            Collector::http(refusal()).await
        } else {
            Collector::grpc(refusal()).await
        };
        let path = if http { "/v1/traces" } else { "" };
        let options = ExportOptions {
            batch: 80, // three are not enough to be sent at once, in parts
            attempts: 1000,
            backoff: Duration::from_secs(3600),
            ..impatient()
        };
        let rig = Exporting::to(&format!("http://{}{path}", collector.address), options);
        rig.spans(3);
        until(|| rig.metric("spans_dropped_total{reason=\"export_failed\"}") == 3).await;
        collector.answers(Answer::Refuse(2));
        rig.spans(5);
        rig.telemetry.shutdown(LIMIT).await.unwrap();
        assert_eq!(rig.metric("spans_dropped_total{reason=\"refused\"}"), 2);
        assert_eq!(rig.metric("spans_exported_total"), 3);
    }
}

#[tokio::test]
async fn a_stop_ends_the_pause_between_attempts() {
    let collector = Collector::http(Answer::Fail(Status::unavailable("starting"))).await;
    let options = ExportOptions {
        backoff: Duration::from_secs(3600),
        ..impatient()
    };
    let rig = Exporting::to(&format!("http://{}/v1/traces", collector.address), options);
    rig.spans(3);
    until(|| rig.lines(FAILING) == 1).await;
    collector.answers(Answer::Take);
    rig.telemetry.shutdown(LIMIT).await.unwrap();
    assert_eq!(collector.spans().len(), 3);
}
