//! What the small things cost per call: a policy whose first try succeeds, the layers around a handler, a
//! metric, a span.

mod metrics;
mod traces;

pub(crate) use self::traces::{Traces, spans};

use std::{hint::black_box, sync::Arc, time::Duration};

use cqi_core::{
    Result,
    event::{Event, Message, Next, Route, Router, middleware},
    name::{Group, topic_name},
    observe::{Observation, Observer, Silent},
    policy::{Policy, Repeat, Retry, run_with_data},
    trace::TraceContext,
};

use crate::{
    measure::Clock,
    report::{Report, Target},
};

const BARE: &str = "bare call";

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    policies(report).await;
    layers(report).await;
    metrics::round(report);
    traces::round(report).await;
    report.note("policy: deadline, retry and attempt around a call that is ready at once");
    report.note("4 layers: tracing, metrics, logging and a timeout; nobody listens to the log");
}

async fn policies(report: &mut Report) {
    let (plain, retry) = (Policy::default(), Retry::default());
    let observed = Policy::default().with_observer(Arc::new(Note));
    const CASES: [&str; 3] = [
        "retry, first try ok",
        "policy, first try ok",
        "policy with observer, first try ok",
    ];
    for case in CASES {
        for peer in report.peers(&["cqi", BARE]) {
            let call = || async { black_box(Ok::<_, cqi_core::Error>(1)) };
            let nanos = match (peer, case) {
                (BARE, _) => time(report, 1_000_000, call).await,
                (_, "retry, first try ok") => time(report, 1_000_000, || run_with_data(&retry, call)).await,
                (_, "policy, first try ok") => {
                    time(report, 1_000_000, || plain.call("bench.call", Repeat::Safe, call)).await
                }
                _ => {
                    time(report, 1_000_000, || {
                        observed.call("bench.call", Repeat::Safe, call)
                    })
                    .await
                }
            };
            report.figure(case, peer, 0, nanos, "ns/op");
        }
        report.target(case, 0, "ns/op", Target::Over(100.0, BARE));
    }
}

async fn layers(report: &mut Report) {
    let topic = topic_name("bench").expect("a valid topic");
    let event = Event::builder(topic.clone())
        .payload("{}")
        .build()
        .expect("a valid event");
    let message = Message::new(event, 1, Group::parse("bench").expect("a valid group"));
    let route = |router: Router| {
        let mut routes = router.into_routes().expect("a valid router");
        routes.remove(&topic).expect("the topic's route")
    };
    let handled = || Router::new().route(topic.clone(), Route::from_fn(handler));
    let pass = |message: Message, next: Next| async move { next.run(message).await };
    let standard = route(
        handled()
            .layer(middleware::Timeout::new(Duration::from_secs(5)))
            .layer(middleware::Log)
            .layer(middleware::Measure::new(Arc::new(Silent)))
            .layer(middleware::Trace::new(Arc::new(Silent))),
    );
    let passing = (0..4).fold(handled(), |router, _| router.layer(middleware::from_fn(pass)));
    let passing = route(passing);
    for (case, route) in [
        ("router, 4 layers", standard),
        ("router, 4 layers that only pass on", passing),
    ] {
        for peer in report.peers(&["cqi", BARE]) {
            let nanos = match peer {
                BARE => time(report, 1_000_000, || handler(message.clone())).await,
                _ => time(report, 1_000_000, || route.handle(message.clone())).await,
            };
            report.figure(case, peer, 0, nanos, "ns/op");
        }
        report.target(case, 0, "ns/op", Target::Over(1000.0, BARE));
    }
}

async fn handler(message: Message) -> Result<()> {
    black_box(&message);
    Ok(())
}

/// Nanoseconds per call.
pub(crate) async fn time<T, F: Future<Output = Result<T>>>(
    report: &Report,
    base: usize,
    call: impl Fn() -> F,
) -> f64 {
    let total = report.count(base);
    let mut clock = Clock::start();
    for i in 0..total + total / 10 {
        if i == total / 10 {
            clock = Clock::start(); // what went before was the warm-up
        }
        assert!(black_box(call().await).is_ok());
    }
    clock.stop().wall.as_nanos() as f64 / total as f64
}

/// An observer that looks at what it is told.
#[derive(Debug)]
struct Note;

impl Observer for Note {
    fn observe(&self, observation: &Observation<'_>) {
        black_box(observation);
    }

    fn current_trace(&self) -> Option<TraceContext> {
        None
    }
}
