//! A broker that stands still for longer than every deadline and session.

use std::{sync::Arc, time::Duration};

use tokio::{task::block_in_place, time::Instant};

use crate::harness::{
    Broker, Findings, Load, Log, Member, Seen, Tune, afterwards, finish, on_each_broker, topic,
};

/// Longer than the broker's sessions of members, the leases of deliveries, and every timeout of a client.
const PAUSE: Duration = Duration::from_secs(30);
/// A reader that sees nothing new for so long has seen everything.
const QUIET: Duration = Duration::from_secs(60);

on_each_broker! {
    long_pause => nats_paused_for_long, kafka_paused_for_long;
}

/// Publishers and a group are at work when it stops, and go on when it does. The tests of both brokers run at the same
/// time: all they do is wait.
async fn long_pause(broker: Broker) {
    let Some(server) = broker.start() else { return };
    let tune = Tune {
        publish_timeout: Duration::from_secs(2),
        ping_interval: Duration::from_secs(1),
        ..Tune::default()
    };
    let bus = broker.connect(server.url(), &tune).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let member = Member::reader(&bus, &topic, "all", &seen).await;
    let before = Load {
        events: 1_000,
        insist: true,
        ..Load::default()
    };
    let publishers = before.start(&bus, &topic, &log);
    log.acked(before.events / 2).await;
    block_in_place(|| server.pause());
    // However fast the others were, these are on their way all the time that the broker stands still.
    let during = Load {
        publishers: 4,
        events: 40,
        prefix: "during",
        ..before.clone()
    };
    let during = during.start(&bus, &topic, &log);
    tokio::time::sleep(PAUSE).await;
    let red = bus.ping().await.is_err();
    block_in_place(|| server.resume());
    let ready = Instant::now();
    for load in [publishers, during, afterwards().start(&bus, &topic, &log)] {
        finish(load, &log).await;
    }
    let recovery = log.first_after(ready).unwrap();
    let stored = Findings::of(&log, &broker.stored(server.url(), &topic).await);
    seen.reaches(stored.read, QUIET).await;
    let handled = seen.first_after(ready).expect("the group goes on");
    member.stop().await.unwrap();
    bus.close().await.unwrap();
    let found = Findings::handled(&log, &seen.handled());
    found
        .figures(
            "PAUSE",
            "broker paused for 30 s under publishers and a group",
            broker.name(),
        )
        .unknown(log.unknown_calls())
        .recovery(recovery)
        .note(format!(
            "first handled again after {} ms, longest call {:.1} s of 2 s, {} redeliveries overtaken",
            handled.as_millis(),
            log.slowest().as_secs_f64(),
            found.overtaken
        ))
        .report();
    stored.hold_without_order();
    found.hold();
    assert!(red, "the health of a broker that stands still");
    assert!(log.unknown_calls() > 0, "the fault was not felt");
    assert!(log.slowest() < tune.publish_timeout * 2, "{:?}", log.slowest());
    assert!(recovery <= broker.recovery(), "{recovery:?}");
}
