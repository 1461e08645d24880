//! What a group that does not come on costs: the bus fills up to its bounds, then publishers are told so.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Code,
    event::{
        ConsumeOptions, Event, EventBus as _, MemoryBus, MemoryBusOptions, Message, Route, Router, Subscriber,
    },
    name::{Group, topic_name},
    service::{Lifecycle, Service as _},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    measure::{SIZES, own_resident, payload},
    report::{Report, Target},
};

pub(super) async fn round(report: &mut Report) {
    for size in SIZES {
        fill(report, size).await;
    }
}

/// Publishes to a handler that never ends until there is no room, and then on.
async fn fill(report: &mut Report, size: usize) {
    let bus = MemoryBus::new(MemoryBusOptions {
        publish_wait: Duration::from_micros(1),
        ..MemoryBusOptions::default()
    });
    let topic = topic_name("stuck").expect("a valid topic");
    let route = Route::from_fn(|_: Message| std::future::pending());
    let group = Group::parse("stuck").expect("a valid group");
    let subscriber = Subscriber::new(
        Arc::new(bus.clone()),
        group,
        Router::new().route(topic.clone(), route),
    )
    .with_options(ConsumeOptions::default().with_drain_timeout(Duration::from_millis(1)));
    let stop = CancellationToken::new();
    let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
    let mut running = JoinSet::new();
    running.spawn(Box::new(subscriber).run(lifecycle));
    ready
        .wait_for(|ready| *ready)
        .await
        .expect("a subscriber that starts");

    let publish = |i| {
        let event = Event::builder(topic.clone()).payload(payload(i, size)).build();
        bus.publish(event.expect("a valid event"))
    };
    let (empty, mut accepted) = (own_resident(), 0);
    let refusal = loop {
        match publish(accepted).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(
        refusal.is_temporary() && refusal.code() == Some(Code::Exhausted),
        "{refusal}"
    );
    let (full, more) = (own_resident(), report.count(10_000));
    for i in 0..more {
        match publish(i).await {
            Ok(()) => accepted += 1, // the subscriber took a last batch
            Err(error) => assert_eq!(error.code(), Some(Code::Exhausted)),
        }
    }
    let after = own_resident();
    stop.cancel();
    let ended = running
        .join_next()
        .await
        .expect("the subscriber")
        .expect("no panic");
    assert!(ended.is_err(), "the drain cuts the handlers off, and says so");

    report.figure("stuck group: accepted", "cqi", size, accepted as f64, "events");
    report.figure(
        "stuck group: memory when full",
        "cqi",
        size,
        (full - empty).max(0.0),
        "MiB",
    );
    let case = "stuck group: memory after 10,000 more";
    report.figure(case, "cqi", size, (after - full).max(0.0), "MiB");
    report.target(case, size, "MiB", Target::Below(1.0));
    report.note(format!("a publisher to a group that is stuck is told: {refusal}"));
}
