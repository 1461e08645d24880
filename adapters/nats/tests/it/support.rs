//! What the tests share.

use std::time::Duration;

use async_nats::jetstream;
use cqi_core::{
    event::{Deliveries, Delivery, Event, Subscription},
    name::{Group, Topic, topic_name},
};
use cqi_nats::{NatsBus, NatsOptions};
use cqi_testkit::{
    fixture::{Options, Server},
    unique,
};
use tokio::time::{Instant, timeout};

/// How long anything may take that has to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Options for a server in a test.
pub(crate) fn options(url: &str) -> NatsOptions {
    NatsOptions::new(url)
}

pub(crate) fn plain() -> Options {
    Options::new()
}

pub(crate) async fn connect(server: &Server) -> NatsBus {
    NatsBus::connect(options(server.url())).await.unwrap()
}

/// An ordinary client, as an operator or another service has.
pub(crate) async fn operator(server: &Server) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

pub(crate) fn topic() -> Topic {
    topic_name(&unique("topic")).unwrap()
}

pub(crate) fn subscription(topic: &Topic) -> Subscription {
    Subscription::new(topic.clone(), Group::parse(&unique("group")).unwrap())
}

pub(crate) fn event(topic: &Topic, n: usize) -> Event {
    Event::builder(topic.clone())
        .payload(n.to_string())
        .build()
        .unwrap()
}

pub(crate) fn number(delivery: &Delivery) -> usize {
    std::str::from_utf8(delivery.event().payload())
        .unwrap()
        .parse()
        .unwrap()
}

/// The next batch; temporary errors are passed over, and counted.
pub(crate) async fn next(deliveries: &mut dyn Deliveries, errors: &mut usize) -> Vec<Delivery> {
    let end = Instant::now() + LIMIT;
    loop {
        match timeout(end - Instant::now(), deliveries.next(64))
            .await
            .expect("nothing came")
            .expect("it ended")
        {
            Ok(batch) => return batch,
            Err(error) => {
                assert!(error.is_temporary(), "{error:?}");
                *errors += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
