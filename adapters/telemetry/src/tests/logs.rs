use std::time::Duration;

use cqi_core::config::LogFormat;
use serde_json::{Value, json};
use tracing::{debug, error, info, info_span, instrument::WithSubscriber, trace, warn};

use super::Rig;

#[test]
fn log_3_4_5_ml_log_7_a_line_has_the_standard_fields_and_its_own() {
    let rig = Rig::new("info");
    let cause = std::io::Error::other("refused");
    let cause: &(dyn std::error::Error + 'static) = &cause;
    rig.run(|| {
        info!(
            user = 42,
            method = "GET",
            elapsed_ms = 1.25,
            ok = true,
            big = u128::MAX,
            "request {}",
            "done"
        );
        error!(error = cause, took = ?Duration::from_secs(1));
    });
    let lines = rig.lines();
    let timestamp = lines[0]["timestamp"].as_str().unwrap();
    assert_eq!(timestamp.len(), "2026-01-02T03:04:05.678Z".len());
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok());
    for (key, value) in [
        ("level", json!("info")),
        ("message", json!("request done")),
        ("service_name", json!("my-shop")),
        ("service_version", json!("1.2")),
        ("instance", json!("a-1")),
        ("target", json!("cqi_telemetry::tests::logs")),
        ("user", json!(42)),
        ("method", json!("GET")),
        ("elapsed_ms", json!(1.25)),
        ("ok", json!(true)),
    ] {
        assert_eq!(lines[0][key], value, "{key}");
    }
    assert_eq!(lines[0].get("trace_id"), None, "absent outside a span");
    assert_eq!(
        (&lines[1]["level"], &lines[1]["error"]),
        (&json!("error"), &json!("refused"))
    );
}

#[test]
fn log_2_ml_log_4_the_level_decides_and_changes_at_run_time() {
    let rig = Rig::new("warn,cqi_telemetry::tests::logs=info");
    let say = || {
        trace!("trace");
        debug!("debug");
        info!("info");
        info!(target: "other", "other");
        warn!(target: "other", "warn");
    };
    rig.run(say);
    let handle = rig.telemetry.log_handle();
    assert!(handle.set_level("loud").unwrap_err().is_invalid_input());
    rig.run(|| debug!("still off"));
    handle.set_level("debug").unwrap();
    rig.run(say);
    handle.set_level("off").unwrap();
    rig.run(say);
    let messages: Vec<_> = rig
        .lines()
        .iter()
        .map(|line| line["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(messages, ["info", "warn", "debug", "info", "other", "warn"]);
}

#[test]
fn log_6_8_fields_of_the_spans_are_on_every_line_and_inner_ones_win() {
    let rig = Rig::new("info");
    rig.run(|| {
        let request = info_span!(
            "request",
            request_id = "r1",
            user = "outer",
            late = tracing::field::Empty
        );
        let _request = request.enter();
        let work = info_span!("work", user = "inner", step = 1);
        let _work = work.enter();
        info!("one");
        request.record("late", "now");
        work.record("step", 2);
        info!(request_id = "own", "two");
    });
    let text = rig.text();
    assert!(
        text.lines().all(|line| line.matches("\"user\"").count() == 1),
        "{text}"
    );
    let lines = rig.lines();
    assert_eq!(pick(&lines[0]), json!(["r1", "inner", 1, null]));
    assert_eq!(pick(&lines[1]), json!(["own", "inner", 2, "now"]));
    assert_eq!(lines[0]["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(lines[0]["span_id"].as_str().unwrap().len(), 16);
    assert_eq!(lines[0]["trace_id"], lines[1]["trace_id"]);
}

fn pick(line: &Value) -> Value {
    json!([line["request_id"], line["user"], line["step"], line["late"]])
}

#[test]
fn a_field_recorded_over_and_over_does_not_grow_the_line() {
    let rig = Rig::new("info");
    rig.run(|| {
        let span = info_span!("loop", step = 0, name = "x");
        for step in 0..1000 {
            span.record("step", step);
        }
        span.in_scope(|| info!("end"));
    });
    let text = rig.text();
    assert!(text.len() < 500, "{text}");
    assert_eq!(
        (&rig.lines()[0]["step"], &rig.lines()[0]["name"]),
        (&json!(999), &json!("x"))
    );
}

#[test]
fn ml_log_8_own_fields_never_hide_the_standard_ones() {
    let rig = Rig::new("info");
    rig.run(|| {
        let span = info_span!("s", message = "span's", level = 7);
        span.in_scope(|| info!(timestamp = "never", service_name = "evil", trace_id = 1, "real"));
    });
    let line = &rig.lines()[0];
    assert_eq!(
        (&line["message"], &line["level"]),
        (&json!("real"), &json!("info"))
    );
    assert_eq!(
        (&line["field_message"], &line["field_level"]),
        (&json!("span's"), &json!(7))
    );
    assert_eq!(
        (&line["service_name"], &line["field_service_name"]),
        (&json!("my-shop"), &json!("evil"))
    );
    assert_eq!(
        (&line["field_timestamp"], &line["field_trace_id"]),
        (&json!("never"), &json!(1))
    );
}

#[test]
fn ml_log_2_one_event_is_one_line_whatever_it_says() {
    let rig = Rig::new("info");
    let hostile = "a\r\n{\"level\":\"error\"}\u{2028}\u{0}\u{1b}[31m\"";
    rig.run(|| info!(value = hostile, debug = ?hostile, "{hostile}"));
    assert_eq!(rig.text().lines().count(), 1);
    assert_eq!(
        (&rig.lines()[0]["value"], &rig.lines()[0]["message"]),
        (&json!(hostile), &json!(hostile))
    );
}

#[test]
fn a_value_that_logs_while_it_is_logged_harms_nobody() {
    #[derive(Debug)]
    struct Plain;
    struct Chatty;
    impl std::fmt::Debug for Chatty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            info!(inner = ?Plain, "from within");
            f.write_str("Chatty")
        }
    }
    let rig = Rig::new("info");
    rig.run(|| info!(value = ?Chatty, "outer"));
    let messages: Vec<_> = rig.lines().iter().map(|line| line["message"].clone()).collect();
    assert!(messages.contains(&json!("outer")), "{messages:?}");
}

#[test]
fn op_38_text_is_for_people() {
    let rig = Rig::with("info", LogFormat::Text, 1.0);
    rig.run(|| info_span!("s", request_id = "r\n1").in_scope(|| warn!(user = 1, "look\nhere")));
    let text = rig.text();
    let (_, rest) = text.split_once(' ').unwrap();
    assert_eq!(
        rest,
        "warn  cqi_telemetry::tests::logs: look\\nhere user=1 request_id=\"r\\n1\"\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ml_log_9_ids_do_not_leak_between_concurrent_tasks() {
    use tracing::Instrument as _;
    let rig = Rig::new("info");
    let tasks = (0..20).map(|n| {
        let work = async move {
            for _ in 0..5 {
                tokio::task::yield_now().await;
                info!(own = n, "step");
            }
        };
        let span = rig.run(|| info_span!("task", n));
        work.instrument(span).with_subscriber(rig.dispatch.clone())
    });
    let mut set = tasks.collect::<tokio::task::JoinSet<_>>();
    while let Some(done) = set.join_next().await {
        done.unwrap();
    }
    let lines = rig.lines();
    assert_eq!(lines.len(), 100);
    assert!(lines.iter().all(|line| line["n"] == line["own"]));
    let traces: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line["trace_id"].to_string()).collect();
    assert_eq!(traces.len(), 20);
}
