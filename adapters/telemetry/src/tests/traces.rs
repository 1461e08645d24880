use cqi_core::{config::LogFormat, trace::TraceContext};
use tracing::{debug_span, info, info_span};

use super::Rig;
use crate::trace::AttributeValue;

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn trc_3_a_child_continues_its_parents_trace() {
    let rig = Rig::new("info");
    let observer = rig.telemetry.observer();
    rig.run(|| {
        assert!(observer.current_trace().is_none());
        let root = info_span!("root");
        let (outer, inner) = root.in_scope(|| {
            let outer = observer.current_trace().unwrap();
            let inner = info_span!("child").in_scope(|| observer.current_trace().unwrap());
            (outer, inner)
        });
        assert_eq!(outer.trace_id, inner.trace_id);
        assert_ne!(outer.span_id, inner.span_id);
        let other = info_span!("root").in_scope(|| observer.current_trace().unwrap());
        assert_ne!(other.trace_id, outer.trace_id);
    });
}

#[test]
fn trc_4_ml_trc_4_an_incoming_trace_is_continued_in_spans_and_lines() {
    let rig = Rig::new("info");
    let observer = rig.telemetry.observer();
    let parent = TraceContext::parse(INCOMING, Some("vendor=1")).unwrap();
    let own = rig.run(|| {
        let span = observer.continue_trace(Some(parent.clone()), &mut || {
            info_span!("request", method = "GET", status = tracing::field::Empty)
        });
        span.record("status", 200);
        span.in_scope(|| {
            info!("served");
            info_span!("child").in_scope(|| observer.current_trace().unwrap())
        })
    });
    assert_eq!(
        (own.trace_id, own.sampled, own.state.as_deref()),
        (parent.trace_id, true, Some("vendor=1"))
    );
    let spans = rig.spans();
    let request = spans.iter().find(|span| span.name == "request").unwrap();
    let child = spans.iter().find(|span| span.name == "child").unwrap();
    assert_eq!(
        (request.trace_id, request.parent_id),
        (parent.trace_id, Some(parent.span_id))
    );
    assert_eq!(
        (child.span_id, child.parent_id),
        (own.span_id, Some(request.span_id))
    );
    let attributes: Vec<_> = request.attributes.iter().collect();
    assert_eq!(
        attributes,
        [("method", "GET".into()), ("status", AttributeValue::Int(200))]
    );
    let line = &rig.lines()[0];
    assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(line["span_id"], format!("{:016x}", request.span_id));
}

#[test]
fn trc_8_the_root_decides_and_its_children_follow() {
    for (rate, low, high) in [(0.0, 0, 0), (1.0, 400, 400), (0.5, 100, 300)] {
        let rig = Rig::with("info", LogFormat::Json, rate);
        rig.run(|| (0..200).for_each(|_| info_span!("root").in_scope(|| drop(info_span!("child")))));
        let spans = rig.spans();
        assert!((low..=high).contains(&spans.len()), "{rate}: {}", spans.len());
        let of = |name: &str| spans.iter().filter(|span| span.name == name).count();
        assert_eq!(of("root"), of("child"));
    }
    let rig = Rig::with("info", LogFormat::Json, 0.0);
    let observer = rig.telemetry.observer();
    rig.run(|| {
        let own = info_span!("own").entered();
        observer.continue_trace(TraceContext::parse(INCOMING, None), &mut || {
            info_span!("asked", field = 1)
        });
        drop(own);
    });
    let spans = rig.spans();
    assert_eq!(
        (spans.len(), spans[0].name),
        (1, "asked"),
        "the caller's decision holds"
    );
    assert_eq!(spans[0].attributes.get("field"), Some(AttributeValue::Int(1)));
}

#[test]
fn traces_do_not_depend_on_the_logs_level() {
    let rig = Rig::new("error");
    rig.run(|| {
        let span = info_span!("kept");
        span.in_scope(|| info!("not written"));
        drop(debug_span!("not made"));
    });
    let names: Vec<_> = rig.spans().iter().map(|span| span.name).collect();
    assert_eq!((names, rig.text().as_str()), (vec!["kept"], ""));
}

#[test]
fn without_our_subscriber_there_is_no_trace_and_no_panic() {
    let rig = Rig::new("info");
    let observer = rig.telemetry.observer();
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        let parent = TraceContext::parse(INCOMING, None);
        let span = observer.continue_trace(parent, &mut || info_span!("foreign"));
        span.in_scope(|| assert!(observer.current_trace().is_none()));
    });
}

#[test]
fn attributes_are_bounded_and_the_last_value_counts() {
    let rig = Rig::new("info");
    let long = "é".repeat(10_000);
    rig.run(|| {
        let span = info_span!("s", a = "one", b = "two", c = 1, long = %long);
        for round in 0..1000 {
            span.record("a", format!("round {round}"));
        }
        span.record("c", "text");
        span.record("b", true);
    });
    let span = rig.spans().remove(0);
    let expected = [
        ("a", AttributeValue::from("round 999")),
        ("b", AttributeValue::Bool(true)),
        ("c", AttributeValue::from("text")),
        ("long", AttributeValue::from(&long[..4096])),
    ];
    assert_eq!(span.attributes.iter().collect::<Vec<_>>(), expected);
    assert_eq!(span.attributes, expected.into_iter().collect());
    assert_eq!(span.attributes.dropped(), 0);
}

#[test]
fn a_parent_from_outside_is_for_one_span_only() {
    let rig = Rig::new("info");
    let observer = rig.telemetry.observer();
    let parent = || TraceContext::parse(INCOMING, None);
    rig.run(|| {
        // A span that is not made leaves the parent to nobody.
        drop(observer.continue_trace(parent(), &mut || debug_span!("not made")));
        drop(info_span!("own"));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            observer.continue_trace(parent(), &mut || panic!("on purpose"))
        }));
        assert!(broken.is_err());
        drop(info_span!("own"));
        let request = observer.continue_trace(parent(), &mut || info_span!("request"));
        drop((info_span!("own"), request));
    });
    let outside = parent().unwrap();
    for span in rig.spans() {
        assert_eq!(
            span.trace_id == outside.trace_id,
            span.name == "request",
            "{}",
            span.name
        );
    }
    assert_eq!(rig.spans().len(), 4);
}

#[test]
fn a_value_that_logs_while_its_span_records_it_harms_nobody() {
    struct Chatty;

    impl std::fmt::Display for Chatty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            info!("shown");
            f.write_str("chatty")
        }
    }

    let rig = Rig::new("info");
    let dispatch = rig.dispatch.clone();
    let (done, waits) = std::sync::mpsc::channel();
    // On a thread of its own, which would wait for itself for ever.
    std::thread::spawn(move || {
        tracing::dispatcher::with_default(&dispatch, || {
            let span = info_span!("work", first = 1, what = tracing::field::Empty);
            span.in_scope(|| span.record("what", tracing::field::display(Chatty)));
        });
        done.send(()).unwrap();
    });
    waits
        .recv_timeout(std::time::Duration::from_secs(10))
        .expect("the value waits for its own span");
    let spans = rig.spans();
    let attributes: Vec<_> = spans[0].attributes.iter().collect();
    assert_eq!(
        attributes,
        [
            ("first", AttributeValue::Int(1)),
            ("what", AttributeValue::Text("chatty"))
        ]
    );
    assert!(rig.lines().iter().any(|line| line["message"] == "shown"));
}
