//! The network between us and the broker: silent, cut, slow, half open.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cqi_core::event::EventBus;
use cqi_testkit::proxy::Direction;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    harness::{
        Broker, Findings, Line, Load, Log, Member, Outcome, Seen, Tune, afterwards, event, finish,
        on_each_broker, topic,
    },
    liars::{Liar, Lie},
};

const QUIET: Duration = Duration::from_secs(20);

on_each_broker! {
    answers_lost => f_bus_04_nats_answers_lost, f_bus_04_kafka_answers_lost;
    old_connections_dead => f_bus_05_nats_old_connections_dead, f_bus_05_kafka_old_connections_dead;
    cuts => link_to_nats_cut_slow_and_half_open, link_to_kafka_cut_slow_and_half_open;
}

/// Events whose answers are swallowed by the network, all at once.
const SILENCED: usize = 20;

fn impatient() -> Tune {
    Tune {
        publish_timeout: Duration::from_secs(2),
        ..Tune::default()
    }
}

/// Publishes while answers don't come; gives the log and the events whose fate it is about.
async fn publish_into_silence(
    line: &Line,
    bus: &Arc<dyn EventBus>,
    log: &Arc<Log>,
) -> Vec<cqi_core::event::Event> {
    let topic = topic();
    let first = event(&topic, "first", 16);
    log.note(&first, 0, Instant::now(), &bus.publish(first.clone()).await);
    line.proxy.black_hole(Direction::Down);
    let mut calls = JoinSet::new();
    let silenced: Vec<_> = (0..SILENCED)
        .map(|n| event(&topic, &format!("k{n}"), 16))
        .collect();
    for event in &silenced {
        let (bus, log, event) = (Arc::clone(bus), Arc::clone(log), event.clone());
        calls.spawn(async move {
            let asked = Instant::now();
            log.note(&event, 0, asked, &bus.publish(event.clone()).await);
        });
    }
    calls.join_all().await;
    // What was held back must not come: the answers are lost for good.
    line.proxy.cut();
    line.proxy.heal().await;
    silenced
}

/// Cut after the broker has stored, before its answer came.
async fn answers_lost(broker: Broker) {
    let Some(line) = broker.behind_proxy().await else {
        return;
    };
    let tune = impatient();
    let bus = broker.connect(&line.url, &tune).await.unwrap();
    let log = Arc::new(Log::default());
    let silenced = publish_into_silence(&line, &bus, &log).await;
    let unknown = log.count(Outcome::Unknown);
    let slowest = log.slowest();

    let healed = Instant::now();
    for event in &silenced {
        loop {
            let asked = Instant::now();
            if log.note(event, 0, asked, &bus.publish(event.clone()).await) == Outcome::Ok {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let recovery = log.first_after(healed).unwrap();
    let stored = broker.stored(&line.url, silenced[0].topic()).await;
    let found = Findings::of(&log, &stored);
    let mut copies: HashMap<&String, usize> = HashMap::new();
    for id in &stored {
        *copies.entry(id).or_default() += 1;
    }
    let most = copies.values().max().copied().unwrap_or_default();
    let dedup = bus.capabilities().dedup_window.is_some();
    bus.close().await.unwrap();
    found
        .figures("F-BUS-04", "answers lost after the broker stored", broker.name())
        .unknown(unknown)
        .recovery(recovery)
        .note(format!(
            "outcome told after {:.1} s of 2 s; published again under their ids: at most {most} stored copies",
            slowest.as_secs_f64()
        ))
        .report();
    found.hold_without_order();
    assert_eq!(
        unknown,
        SILENCED,
        "each is unknown, none is called refused: {:?}",
        log.errors()
    );
    assert!(
        slowest < tune.publish_timeout + Duration::from_secs(1),
        "{slowest:?}"
    );
    if dedup {
        assert_eq!((found.duplicated, most), (0, 1), "the broker knows the ids");
    }
}

/// The test of the test above: what the broker stored may not be called refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_calls_unknown_refused_is_caught() {
    let broker = Broker::Nats;
    let Some(line) = broker.behind_proxy().await else {
        return;
    };
    let honest = broker.connect(&line.url, &impatient()).await.unwrap();
    let (bus, log) = (
        Liar::of(&honest, Lie::CallsUnknownRefused),
        Arc::new(Log::default()),
    );
    let silenced = publish_into_silence(&line, &bus, &log).await;
    let found = Findings::of(&log, &broker.stored(&line.url, silenced[0].topic()).await);
    assert_eq!(found.ghosts.len(), SILENCED, "{found:?}");
}

/// Open connections go silent both ways, as when a firewall has forgotten them; new ones would work.
async fn old_connections_dead(broker: Broker) {
    let Some(line) = broker.behind_proxy().await else {
        return;
    };
    let tune = Tune {
        ping_interval: Duration::from_secs(1),
        publish_timeout: Duration::from_secs(2),
        ..Tune::default()
    };
    let bus = broker.connect(&line.url, &tune).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let member = Member::reader(&bus, &topic, "group", &seen).await;
    let load = Load {
        publishers: 4,
        events: 2_000,
        insist: true,
        ..Load::default()
    };
    let publishers = load.start(&bus, &topic, &log);
    log.acked(load.events / 4).await;
    line.proxy.black_hole_old(Direction::Both);
    let struck = Instant::now();
    // Acknowledgements that were through already are none of the new connection's.
    let through = struck + Duration::from_millis(100);
    // However fast the others were, these are published into the silence.
    let late = afterwards();
    finish(late.start(&bus, &topic, &log), &log).await;
    finish(publishers, &log).await;
    seen.reaches(load.events + late.events, QUIET).await;
    let published = log.first_after(through).unwrap() + (through - struck);
    let handled = seen.first_after(through).expect("events go on being handled") + (through - struck);
    member.stop().await.unwrap();
    bus.close().await.unwrap();

    let found = Findings::handled(&log, &seen.handled());
    found
        .figures("F-BUS-05", "old connections silent both ways", broker.name())
        .unknown(log.unknown_calls())
        .recovery(published)
        .note(format!("first handled again after {} ms", handled.as_millis()))
        .report();
    found.hold();
    let budget = match broker {
        Broker::Nats => tune.ping_interval * 2,
        // Its client looks at requests, not at pings.
        Broker::Kafka => tune.publish_timeout * 2,
    };
    let reconnect = Duration::from_secs(2);
    assert!(published <= budget + reconnect, "{published:?}");
    assert!(handled <= broker.recovery(), "{handled:?}");
}

/// Every way a connection can break, one after the other, under load.
async fn cuts(broker: Broker) {
    let Some(line) = broker.behind_proxy().await else {
        return;
    };
    let tune = Tune {
        ping_interval: Duration::from_secs(1),
        publish_timeout: Duration::from_secs(3),
        ..Tune::default()
    };
    let bus = broker.connect(&line.url, &tune).await.unwrap();
    let (topic, log, seen) = (topic(), Arc::new(Log::default()), Seen::default());
    let member = Member::reader(&bus, &topic, "group", &seen).await;
    let load = Load {
        publishers: 4,
        events: 3_000,
        insist: true,
        ..Load::default()
    };
    let publishers = load.start(&bus, &topic, &log);
    let mut told = Vec::new();
    let mut slowest = Duration::ZERO;
    type Strike = fn(&Line);
    let strikes: [(&str, Strike); 5] = [
        ("cut", |line| line.proxy.cut()),
        ("reset", |line| line.proxy.reset()),
        ("half open up", |line| line.proxy.half_close(Direction::Up)),
        ("half open down", |line| line.proxy.half_close(Direction::Down)),
        ("cut in a message", |line| {
            line.proxy.cut_after(Direction::Both, 1_000)
        }),
    ];
    for (n, (name, strike)) in strikes.iter().enumerate() {
        log.acked(load.events * (n + 1) / 7).await;
        let before = line.proxy.accepted();
        strike(&line);
        let struck = Instant::now();
        tokio::time::sleep(Duration::from_millis(100)).await;
        line.proxy.heal().await;
        let recovery = log.recovers(struck + Duration::from_millis(100)).await;
        slowest = slowest.max(recovery);
        assert!(line.proxy.accepted() > before, "{name}: it was not felt");
        told.push(format!("{name} {} ms", recovery.as_millis()));
    }
    log.acked(load.events * 6 / 7).await;
    line.proxy.latency(Duration::from_millis(250)); // each way
    let late = Arc::new(Log::default());
    let few = Load {
        publishers: 4,
        events: 20,
        ..load.clone()
    };
    finish(few.start(&bus, &topic, &late), &late).await;
    told.push(format!(
        "500 ms latency: longest call {} ms",
        late.slowest().as_millis()
    ));
    line.proxy.heal().await;
    finish(publishers, &log).await;
    seen.reaches(load.events + few.events, QUIET).await;
    member.stop().await.unwrap();
    bus.close().await.unwrap();

    let ids = seen.ids();
    let of_late: Vec<String> = late.entries().into_keys().collect();
    let mut own = seen.handled();
    own.retain(|(id, _)| !of_late.contains(id));
    let found = Findings::handled(&log, &own);
    told.push(format!("{} redeliveries overtaken", found.overtaken));
    found
        .figures("LINK", "connections cut, reset, half open, slow", broker.name())
        .unknown(log.unknown_calls())
        .recovery(slowest)
        .note(told.join(", "))
        .report();
    found.hold();
    assert_eq!(late.count(Outcome::Ok), few.events, "{:?}", late.errors());
    assert!(of_late.iter().all(|id| ids.contains(id)));
    assert!(slowest <= broker.recovery(), "{slowest:?}");
}
