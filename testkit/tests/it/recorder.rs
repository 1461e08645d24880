//! The recorder sees observations, logs and spans.

use std::time::Duration;

use cqi_core::{
    Error,
    observe::{Observation, Observer},
    trace::TraceContext,
};
use cqi_testkit::recorder::Recorder;
use tracing::Level;

#[test]
fn observations_are_kept_with_labels_and_errors() {
    let recorder = Recorder::default();
    let error = Error::temporary("connection reset");
    recorder.observe(&Observation::Called {
        operation: "cache.get",
        elapsed: Duration::from_millis(3),
        attempts: 2,
        error: Some(&error),
    });
    recorder.observe(&Observation::CacheLookup { hit: true });
    let called = &recorder.observed("called")[0];
    assert_eq!(
        (called.label("operation"), called.label("attempts")),
        ("cache.get", "2")
    );
    assert_eq!(called.elapsed, Some(Duration::from_millis(3)));
    assert!(called.error.as_ref().is_some_and(Error::is_temporary));
    assert_eq!(recorder.observed("cache_lookup")[0].label("hit"), "true");
    assert_eq!(recorder.observations().len(), 2);
    assert!(recorder.contains("connection reset"));
    recorder.clear();
    assert!(recorder.observations().is_empty());
}

#[test]
fn logs_and_spans_are_kept_with_their_fields() {
    let recorder = Recorder::default();
    let installed = recorder.install();
    let outer = tracing::info_span!("outer", topic = "t", late = tracing::field::Empty);
    outer.in_scope(|| {
        outer.record("late", 7);
        let _inner = tracing::debug_span!("inner").entered();
        tracing::error!(attempt = 3, error = %"broken", "handler failed");
    });
    let spans = recorder.spans();
    assert_eq!(spans[0].fields.get("late").map(String::as_str), Some("7"));
    assert_eq!((spans[1].name, spans[1].parent), ("inner", Some("outer")));
    assert!(!spans[0].closed && spans[1].closed);
    drop(outer);
    assert!(recorder.spans()[0].closed);
    drop(installed);
    tracing::error!("after the guard");

    let logs = recorder.logs();
    assert_eq!(logs.len(), 1);
    assert_eq!(
        (logs[0].level, logs[0].message.as_str()),
        (Level::ERROR, "handler failed")
    );
    assert_eq!(logs[0].fields["attempt"], "3");
    assert_eq!(logs[0].fields["error"], "broken");
    assert_eq!(logs[0].spans, ["outer", "inner"]);
    assert!(recorder.contains("broken") && !recorder.contains("after the guard"));
}

#[test]
fn traces_are_answered_and_kept() {
    let recorder = Recorder::default();
    assert_eq!(recorder.current_trace(), None);
    let trace = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None).unwrap();
    recorder.set_trace(Some(trace.clone()));
    assert_eq!(recorder.current_trace(), Some(trace.clone()));
    recorder.continue_trace(Some(trace.clone()), &mut tracing::Span::none);
    recorder.continue_trace(None, &mut tracing::Span::none);
    assert_eq!(recorder.continued_traces(), [trace]);
}

/// Alone in its process it fails where the recorder is the only subscriber.
#[test]
fn a_line_that_a_thread_without_recorder_came_to_first_is_recorded() {
    fn log() {
        tracing::warn!("from two threads");
    }
    let recorder = Recorder::default();
    let _installed = recorder.install();
    std::thread::spawn(log).join().unwrap();
    log();
    assert!(recorder.contains("from two threads"));
    assert_eq!(recorder.logs().len(), 1);
}
