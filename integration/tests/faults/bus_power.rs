//! Power losses: what the broker did not write through before it died is gone from its disk.

use std::{fs, sync::Arc, time::Duration};

use cqi_core::event::Durability;
use cqi_testkit::fixture::Options;
use tokio::{task::block_in_place, time::Instant};

use crate::harness::{
    Amnesia, Broker, Findings, Load, Log, Member, Outcome, Seen, Tune, afterwards, finish, on_each_broker,
    topic,
};

/// A reader that sees nothing new for so long has seen everything. A group once took more than 20 s for going on after its
/// broker had died.
const QUIET: Duration = Duration::from_secs(60);

/// What the operating system had time to write back by itself, and what it had not.
const OLD: Load = Load {
    publishers: 8,
    events: 500,
    keys: 16,
    prefix: "old",
    payload: 256,
    insist: false,
};
const YOUNG: Load = Load {
    prefix: "young",
    ..OLD
};

on_each_broker! {
    written_through => f_bus_11_nats_written_through_survives, f_bus_11_kafka_written_through_survives;
    by_default => f_bus_11_nats_by_default_forgets, f_bus_11_kafka_by_default_forgets;
}

/// Everything is there that was acknowledged, where the server writes through first.
async fn written_through(broker: Broker) {
    let always = match broker {
        Broker::Nats => "jetstream: { sync_interval: always }",
        Broker::Kafka => "log.flush.interval.messages=1",
    };
    let what = "power lost, written through before each acknowledgement";
    if let Some(found) = power_lost(broker, Options::new().line(always), what).await {
        found.hold();
    }
}

/// By default neither server writes through, and the default promises no more: what was acknowledged last is lost, which
/// also shows that the power loss is one. What was old enough to be written back is there.
async fn by_default(broker: Broker) {
    let what = "power lost, by default";
    let Some(found) = power_lost(broker, Options::new(), what).await else {
        return;
    };
    let lost = |prefix: &str| found.lost.iter().filter(|lost| lost.starts_with(prefix)).count();
    assert!(
        lost(YOUNG.prefix) > 0,
        "nothing is lost: the disk forgets nothing"
    );
    assert_eq!(lost(YOUNG.prefix), found.lost.len(), "{:?}", found.lost);
}

async fn power_lost(broker: Broker, options: Options, what: &'static str) -> Option<Findings> {
    let disk = block_in_place(Amnesia::mount)?;
    let data = disk.folder.join("data");
    block_in_place(|| fs::create_dir(&data)).unwrap();
    let server = broker.start_with(&options.data(&data))?;
    // The empty server is old: Kafka formats its disk without fsync, and does not start where that was lost.
    disk.settle();
    let bus = broker.connect(server.url(), &Tune::default()).await.unwrap();
    // A client cannot see the server's setting, so this is what the adapter may claim.
    assert_eq!(bus.capabilities().durability, Durability::ProcessCrash);
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let member = Member::reader(&bus, &topic, "all", &seen).await;
    let mut published = 0;
    for load in [OLD, YOUNG] {
        finish(load.start(&bus, &topic, &log), &log).await;
        published += load.events;
        assert_eq!(log.count(Outcome::Ok), published, "{:?}", log.errors());
        assert!(
            seen.reaches(published, QUIET).await,
            "of {published}: {:?}",
            seen.ids().len()
        );
        if load.prefix == OLD.prefix {
            disk.settle();
        }
    }
    block_in_place(|| {
        server.kill();
        disk.lose_power();
        server.start();
    });
    let ready = Instant::now();
    finish(afterwards().start(&bus, &topic, &log), &log).await;
    let recovery = log.first_after(ready).unwrap();
    let found = Findings::of(&log, &broker.stored(server.url(), &topic).await);
    // Whatever is lost, the group that was there before goes on with what comes after.
    published += afterwards().events;
    let handled = seen.reaches(published, QUIET).await;
    member.stop().await.unwrap();
    bus.close().await.unwrap();
    let calls = Findings::handled(&log, &seen.handled());
    found
        .figures("F-BUS-11", what, broker.name())
        .unknown(log.count(Outcome::Unknown))
        .recovery(recovery)
        .note(format!(
            "{} of a group's {} deliveries are repeats",
            calls.duplicated,
            seen.ids().len()
        ))
        .report();
    assert!(handled, "the group was given {} of {published}", calls.read);
    // A client that the broker's loss of events has broken for good is replaced, and not only when it failed for long.
    assert!(recovery <= broker.recovery(), "{recovery:?}");
    Some(found)
}
