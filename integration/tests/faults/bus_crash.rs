//! The broker is killed, restarted or paused while events are published and handled.

use std::{sync::Arc, time::Duration};

use cqi_core::event::EventBus;
use tokio::{sync::watch, task::block_in_place, time::Instant};

use crate::harness::{
    Broker, Findings, Load, Log, Member, Outcome, Seen, Tune, afterwards, crash, finish, heavy,
    on_each_broker, read_all, scale, topic,
};

/// How long a killed broker stays away.
const OUTAGE: Duration = Duration::from_secs(2);
/// As many as a member may hold in memory: what is handled after them was fetched anew.
const HELD: usize = 1_100;
/// A reader that sees nothing new for so long has seen everything.
const QUIET: Duration = Duration::from_secs(60);

on_each_broker! {
    killed_while_publishing => f_bus_01_nats_killed_while_publishing, f_bus_01_kafka_killed_while_publishing;
    killed_while_consuming => f_bus_02_nats_killed_while_consuming, f_bus_02_kafka_killed_while_consuming;
    restarted_twice => restarts_of_nats_at_a_third_and_a_half, restarts_of_kafka_at_a_third_and_a_half;
    paused => nats_paused_while_publishing, kafka_paused_while_publishing;
}

async fn killed_while_publishing(broker: Broker) {
    let _alone = heavy().await;
    let Some(server) = broker.start() else { return };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log) = (topic(), Arc::new(Log::default()));
    let load = Load {
        events: scale(20_000),
        ..Load::default()
    };
    let publishers = load.start(&bus, &topic, &log);
    log.acked(load.events / 4).await;
    let ready = crash(&server, OUTAGE).await;
    finish(afterwards().start(&bus, &topic, &log), &log).await;
    finish(publishers, &log).await;

    let recovery = log
        .first_after(ready)
        .expect("an event is acknowledged after the restart");
    let stored = Findings::of(&log, &broker.stored(server.url(), &topic).await);
    let delivered = Findings::of(&log, &read_all(&bus, &topic, stored.read, QUIET).await);
    bus.close().await.unwrap();
    delivered
        .figures("F-BUS-01", "broker killed while publishing", broker.name())
        .unknown(log.count(Outcome::Unknown))
        .recovery(recovery)
        .note(format!(
            "{} refused, {} stored twice",
            log.failed_calls(),
            stored.duplicated
        ))
        .report();
    stored.hold();
    delivered.hold();
    assert_eq!(delivered.read, stored.read, "what is stored is delivered");
    assert!(recovery <= broker.recovery(), "{recovery:?}");
    assert!(
        log.failed_calls() + log.unknown_calls() > 0,
        "the fault was not felt"
    );
}

async fn killed_while_consuming(broker: Broker) {
    let _alone = heavy().await;
    let Some(server) = broker.start() else { return };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let load = Load {
        events: scale(4_000).max(2_000),
        insist: true,
        ..Load::default()
    };
    finish(load.start(&bus, &topic, &log), &log).await;
    let gate = watch::Sender::new(load.events / 4);
    let member = Member::gated_reader(&bus, &topic, "rows", &seen, &gate).await;
    assert!(
        seen.reaches(load.events / 4, QUIET).await,
        "{:?}",
        seen.ids().len()
    );
    let ready = crash(&server, OUTAGE).await;
    gate.send_replace(usize::MAX);
    seen.reaches(load.events, QUIET).await;
    member.stop().await.unwrap();
    bus.close().await.unwrap();

    let stored = Findings::of(&log, &broker.stored(server.url(), &topic).await);
    let found = Findings::handled(&log, &seen.handled());
    let recovery = seen
        .nth_after(ready, HELD)
        .expect("events are handled after the restart");
    found
        .figures("F-BUS-02", "broker killed while consuming", broker.name())
        .unknown(log.count(Outcome::Unknown))
        .recovery(recovery)
        .note(format!("{} redeliveries overtaken", found.overtaken))
        .report();
    stored.hold();
    found.hold();
    assert!(recovery <= broker.recovery(), "{recovery:?}");
}

/// As other systems test a reconnect: 100 publishers, restarts at one third and one half, all of it within a minute.
async fn restarted_twice(broker: Broker) {
    let _alone = heavy().await;
    let Some(server) = broker.start() else { return };
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let load = Load {
        publishers: 100,
        events: scale(10_000),
        keys: 4,
        insist: true,
        ..Load::default()
    };
    let began = Instant::now();
    let member = Member::reader(&bus, &topic, "all", &seen).await;
    let publishers = load.start(&bus, &topic, &log);
    let mut slowest = Duration::ZERO;
    for share in [3, 2] {
        log.acked(load.events / share).await;
        let ready = crash(&server, Duration::ZERO).await;
        slowest = slowest.max(log.recovers(ready).await);
    }
    finish(publishers, &log).await;
    seen.reaches(load.events, QUIET).await;
    let whole = began.elapsed();
    member.stop().await.unwrap();
    bus.close().await.unwrap();

    let found = Findings::handled(&log, &seen.handled());
    found
        .figures(
            "RESTARTS",
            "restarted at 1/3 and 1/2, 100 publishers",
            broker.name(),
        )
        .unknown(log.count(Outcome::Unknown))
        .recovery(slowest)
        .note(format!("{:.1} s in all", whole.as_secs_f64()))
        .report();
    found.hold();
    assert_eq!(found.acked, load.events, "everything is acknowledged in the end");
    assert!(slowest <= broker.recovery(), "{slowest:?}");
    assert!(whole < Duration::from_secs(60), "{whole:?}");
}

/// Longer than the publish timeout, so that calls end as unknown while the broker holds them.
async fn paused(broker: Broker) {
    let Some(server) = broker.start() else { return };
    let tune = Tune {
        publish_timeout: Duration::from_secs(2),
        ping_interval: Duration::from_secs(1),
        ..Tune::default()
    };
    let bus: Arc<dyn EventBus> = broker.connect(server.url(), &tune).await.unwrap();
    let (topic, log) = (topic(), Arc::new(Log::default()));
    let load = Load {
        events: scale(4_000).max(1_000),
        ..Load::default()
    };
    let publishers = load.start(&bus, &topic, &log);
    log.acked(load.events / 4).await;
    block_in_place(|| server.pause());
    // However fast the others were, these are on their way when the broker stands still.
    let stuck = Load {
        publishers: 4,
        events: 4,
        prefix: "stuck",
        ..Load::default()
    };
    let stuck = stuck.start(&bus, &topic, &log);
    tokio::time::sleep(Duration::from_secs(6)).await;
    finish(stuck, &log).await;
    block_in_place(|| server.resume());
    let ready = Instant::now();
    finish(afterwards().start(&bus, &topic, &log), &log).await;
    finish(publishers, &log).await;

    let recovery = log
        .first_after(ready)
        .expect("an event is acknowledged afterwards");
    let found = Findings::of(&log, &broker.stored(server.url(), &topic).await);
    bus.close().await.unwrap();
    found
        .figures("PAUSE", "broker paused for 6 s while publishing", broker.name())
        .unknown(log.count(Outcome::Unknown))
        .recovery(recovery)
        .note(format!(
            "longest call {:.1} s of 2 s",
            log.slowest().as_secs_f64()
        ))
        .report();
    found.hold();
    assert!(
        log.unknown_calls() > 0,
        "calls in flight are not known to have failed: {:?}",
        log.errors()
    );
    assert!(log.slowest() < tune.publish_timeout * 2, "{:?}", log.slowest());
    assert!(recovery <= broker.recovery(), "{recovery:?}");
}
