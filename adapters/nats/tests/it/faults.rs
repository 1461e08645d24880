//! Servers that die, hang and come back, and links that go dead (TST-7).

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqi_core::{
    Code,
    event::{Event, EventBus, StartAt},
};
use cqi_nats::NatsBus;
use cqi_testkit::{
    fixture::{self, Kind as Fixture},
    proxy::{Direction, Proxy},
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::support::{LIMIT, connect, event, next, number, options, plain, subscription, topic};

#[tokio::test(flavor = "multi_thread")]
async fn f_bus_01_a_server_killed_while_publishing_loses_nothing_acknowledged() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let server = Arc::new(server);
    let (bus, topic) = (connect(&server).await, topic());
    let acked = Arc::new(Mutex::new(HashSet::new()));
    let (events, publishers) = (3_000, 8);
    let mut tasks = JoinSet::new();
    for publisher in 0..publishers {
        let (bus, topic, acked) = (bus.clone(), topic.clone(), Arc::clone(&acked));
        tasks.spawn(async move {
            for n in (publisher..events).step_by(publishers) {
                let sent = event(&topic, n);
                while let Err(error) = bus.publish(sent.clone()).await {
                    assert!(error.is_temporary(), "{error:?}");
                    sleep(Duration::from_millis(20)).await;
                }
                acked.lock().unwrap().insert(n);
            }
        });
    }
    while acked.lock().unwrap().len() < events / 3 {
        sleep(Duration::from_millis(1)).await;
    }
    let killed = Arc::clone(&server);
    spawn_blocking(move || killed.kill()).await.unwrap();
    sleep(Duration::from_millis(700)).await;
    let restarted = Arc::clone(&server);
    spawn_blocking(move || restarted.start()).await.unwrap();
    let back = Instant::now();
    let before = acked.lock().unwrap().len();
    while acked.lock().unwrap().len() == before {
        sleep(Duration::from_millis(1)).await;
        assert!(
            back.elapsed() < Duration::from_secs(5),
            "no publish within 5 s after the restart"
        );
    }
    while let Some(done) = timeout(LIMIT, tasks.join_next()).await.unwrap() {
        done.unwrap();
    }
    let all = subscription(&topic).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(all).await.unwrap();
    let (mut missing, mut twice) = ((0..events).collect::<HashSet<_>>(), 0);
    while !missing.is_empty() {
        for delivery in next(&mut *deliveries, &mut 0).await {
            twice += usize::from(!missing.remove(&number(&delivery)));
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(twice, 0, "an event was stored twice within the duplicate window");
}

#[tokio::test(flavor = "multi_thread")]
async fn f_bus_02_a_server_killed_while_consuming_goes_on_with_what_was_not_settled() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let server = Arc::new(server);
    let (bus, topic) = (connect(&server).await, topic());
    let short = subscription(&topic).with_ack_deadline(Duration::from_secs(2));
    let mut deliveries = bus.subscribe(short).await.unwrap();
    for result in bus
        .publish_batch((0..1_000).map(|n| event(&topic, n)).collect())
        .await
    {
        result.unwrap();
    }
    let (mut missing, mut errors, mut killed) = ((0..1_000).collect::<HashSet<_>>(), 0, None);
    while !missing.is_empty() {
        for delivery in next(&mut *deliveries, &mut errors).await {
            let n = number(&delivery);
            if delivery.ack().await.is_ok() {
                missing.remove(&n);
            }
        }
        if killed.is_none() && missing.len() < 600 {
            let server = Arc::clone(&server);
            spawn_blocking(move || {
                server.kill();
                server.start();
            })
            .await
            .unwrap();
            killed = Some(Instant::now());
        }
    }
    let took = killed.unwrap().elapsed();
    assert!(
        took < Duration::from_secs(8),
        "{took:?} to go on, with an ack deadline of 2 s"
    );
}

#[tokio::test]
async fn f_bus_05_a_dead_link_is_noticed_within_two_ping_intervals() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let proxy = Proxy::start(server.address()).await.unwrap();
    let mut watchful = options(&format!("nats://{}", proxy.address()));
    watchful.ping_interval = Duration::from_secs(1);
    let (bus, topic) = (NatsBus::connect(watchful).await.unwrap(), topic());
    let mut deliveries = bus.subscribe(subscription(&topic)).await.unwrap();
    bus.publish(event(&topic, 1)).await.unwrap();
    next(&mut *deliveries, &mut 0)
        .await
        .pop()
        .unwrap()
        .ack()
        .await
        .unwrap();
    let before = proxy.accepted();
    proxy.black_hole_old(Direction::Both);
    let start = Instant::now();
    while proxy.accepted() == before {
        sleep(Duration::from_millis(5)).await;
        assert!(
            start.elapsed() <= Duration::from_secs(2),
            "not noticed after {:?}",
            start.elapsed()
        );
    }
    // Both directions work again, and nobody had to do anything.
    while bus.publish(event(&topic, 2)).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "publishing after {:?}",
        start.elapsed()
    );
    assert_eq!(number(&next(&mut *deliveries, &mut 0).await[0]), 2);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "consuming after {:?}",
        start.elapsed()
    );
    proxy.close().await;
}

#[tokio::test]
async fn a_cut_link_comes_back_by_itself() {
    let Some(server) = fixture::require(Fixture::Nats) else {
        return;
    };
    let proxy = Proxy::start(server.address()).await.unwrap();
    let (bus, topic) = (
        NatsBus::connect(options(&format!("nats://{}", proxy.address())))
            .await
            .unwrap(),
        topic(),
    );
    let mut deliveries = bus.subscribe(subscription(&topic)).await.unwrap();
    for n in 0..6 {
        if n % 2 == 0 {
            proxy.cut()
        } else {
            proxy.reset()
        }
        let start = Instant::now();
        while let Err(error) = bus.publish(event(&topic, n)).await {
            assert!(error.is_temporary(), "{error:?}");
            sleep(Duration::from_millis(5)).await;
        }
        let delivery = next(&mut *deliveries, &mut 0).await.pop().unwrap();
        assert_eq!(number(&delivery), n);
        delivery.ack().await.unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "after {:?}",
            start.elapsed()
        );
    }
    proxy.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bus_16_a_server_that_hangs_makes_pings_and_publishes_fail_in_time() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let mut quick = options(server.url());
    quick.connection_timeout = Duration::from_secs(1);
    quick.publish_timeout = Duration::from_secs(1);
    quick.close_timeout = Duration::from_secs(1);
    let (bus, topic) = (NatsBus::connect(quick).await.unwrap(), topic());
    server.pause();
    let start = Instant::now();
    let (ping, publish) = futures::future::join(bus.ping(), bus.publish(event(&topic, 1))).await;
    assert_eq!(ping.unwrap_err().code(), Some(Code::Timeout));
    assert!(publish.unwrap_err().may_have_applied());
    assert!(start.elapsed() < Duration::from_secs(2));
    server.resume();
    bus.ping().await.unwrap();
    server.pause();
    let start = Instant::now();
    bus.close().await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "closing took {:?}",
        start.elapsed()
    );
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_down_calls_fail_at_once_and_nothing_piles_up() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let (bus, topic) = (connect(&server).await, topic());
    let mut deliveries = bus.subscribe(subscription(&topic)).await.unwrap();
    bus.publish(event(&topic, 0)).await.unwrap();
    let held = next(&mut *deliveries, &mut 0).await.pop().unwrap();
    server.kill();
    while bus.ping().await.is_ok() {}
    // More than the 2,048 commands that the client would queue.
    let start = Instant::now();
    for n in 0..5_000 {
        let error = bus.publish(event(&topic, n)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.may_have_applied()),
            (Some(Code::Unavailable), false),
            "{error:?}"
        );
    }
    assert!(held.extend().await.unwrap_err().is_temporary());
    assert!(held.ack().await.unwrap_err().is_temporary());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let start = Instant::now();
    bus.close().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(6));
    assert!(timeout(LIMIT, deliveries.next(1)).await.unwrap().is_none());
}

/// Of two members one has events waiting that it has not asked for when the server stops to answer the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_come_outlasts_a_silent_server() {
    let Some(server) = fixture::require_own(Fixture::Nats, &plain()) else {
        return;
    };
    let (bus, topic) = (connect(&server).await, topic());
    let wanted = subscription(&topic).with_ack_deadline(Duration::from_secs(120));
    let mut one = bus.subscribe(wanted.clone()).await.unwrap();
    let mut other = bus.subscribe(wanted).await.unwrap();
    let events = (0..20).map(|n| {
        let key = format!("key {n}");
        let event = Event::builder(topic.clone()).key(key);
        event.payload(n.to_string()).build().unwrap()
    });
    for result in bus.publish_batch(events.collect()).await {
        result.unwrap();
    }
    let mut seen = HashSet::new();
    let error = loop {
        let Ok(batch) = timeout(Duration::from_millis(500), one.next(64)).await else {
            server.pause(); // all of this member's have come
            break timeout(LIMIT, one.next(64)).await.unwrap().unwrap().unwrap_err();
        };
        for delivery in batch.unwrap().unwrap() {
            seen.insert(number(&delivery));
            delivery.ack().await.unwrap();
        }
    };
    assert_eq!(error.code(), Some(Code::Unavailable), "{error:?}");
    server.resume();
    while seen.len() < 20 {
        for delivery in next(&mut *other, &mut 0).await {
            assert_eq!(delivery.attempt(), 1);
            seen.insert(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
}
