//! Slow handlers while members come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqi_core::{
    event::{ConsumeOptions, Event, EventBus as _, Message, Route, Router, Subscriber},
    name::{Group, topic_name},
    service::{Lifecycle, Service as _},
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::{
    eventually,
    fixture::{self, Kind},
    unique,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::support::options;

const EVENTS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_is_given_what_slow_handlers_have_not_begun() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let topic = topic_name(&unique("topic")).unwrap();
    let group = Group::parse(&unique("group")).unwrap();
    // Which members were given which key.
    let calls: Arc<Mutex<BTreeMap<String, Vec<usize>>>> = Arc::default();
    let stop = CancellationToken::new();
    let (mut buses, mut members) = (Vec::new(), JoinSet::new());
    for member in 0..2 {
        let patient = KafkaOptions {
            session_timeout: Duration::from_secs(20), // the machine has other work too
            ..options(server)
        };
        let bus = KafkaBus::connect(patient).await.unwrap();
        let handler = {
            let calls = Arc::clone(&calls);
            move |message: Message| {
                let calls = Arc::clone(&calls);
                async move {
                    let key = message.event.key().unwrap().to_owned();
                    calls.lock().unwrap().entry(key).or_default().push(member);
                    sleep(Duration::from_secs(1)).await;
                    Ok(())
                }
            }
        };
        let router = Router::new().route(topic.clone(), Route::from_fn(handler));
        let subscriber = Subscriber::new(Arc::new(bus.clone()), group.clone(), router)
            .with_options(ConsumeOptions::default().with_concurrency(2));
        let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
        members.spawn(Box::new(subscriber).run(lifecycle));
        ready.wait_for(|ready| *ready).await.unwrap();
        if member == 0 {
            let event = |n: usize| Event::builder(topic.clone()).key(n.to_string()).build().unwrap();
            for result in bus.publish_batch((0..EVENTS).map(event).collect()).await {
                result.unwrap();
            }
            eventually(
                "the first member works",
                Duration::from_secs(60),
                async || match calls.lock().unwrap().len() {
                    4.. => Ok(()),
                    few => Err(few),
                },
            )
            .await
            .unwrap();
        }
        buses.push(bus);
    }
    eventually(
        "all are handled",
        Duration::from_secs(120),
        async || match calls.lock().unwrap().len() {
            EVENTS => Ok(()),
            few => Err(few),
        },
    )
    .await
    .unwrap();
    stop.cancel();
    while let Some(ended) = members.join_next().await {
        ended.unwrap().unwrap();
    }
    for bus in buses {
        bus.close().await.unwrap();
    }
    let calls = calls.lock().unwrap();
    let again: Vec<_> = calls.iter().filter(|(_, calls)| calls.len() > 1).collect();
    assert!(again.is_empty(), "{again:?}");
    let second = calls.values().flatten().filter(|member| **member == 1).count();
    assert!(second > 0, "the first member kept them all");
}
