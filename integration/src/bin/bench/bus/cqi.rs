//! An event bus, as a service uses it: published through the port, consumed by a subscriber.

use std::sync::Arc;

use bytes::Bytes;
use cqi_core::{
    Result,
    event::{ConsumeOptions, Event, EventBus, Message, Route, Router, StartAt, Subscriber},
    name::{Group, Topic},
    service::{Lifecycle, Service as _},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{BATCH, Peer, Seen, Work, concurrently};

pub(super) struct Cqi {
    bus: Arc<dyn EventBus>,
    topic: Topic,
}

impl Cqi {
    pub(super) fn new(bus: Arc<dyn EventBus>, topic: Topic) -> Self {
        Self { bus, topic }
    }

    pub(super) async fn close(&self) {
        self.bus.close().await.expect("a bus that closes");
    }

    fn event(&self, payload: Bytes) -> Event {
        let event = Event::builder(self.topic.clone()).payload(payload);
        event.build().expect("a valid event")
    }
}

impl Peer for Cqi {
    type Consuming = Consuming;

    async fn publish(&self, payload: Bytes) {
        let event = self.event(payload);
        self.bus.publish(event).await.expect("an acknowledgement");
    }

    async fn batch(&self, payloads: Vec<Bytes>) {
        let events = payloads.into_iter().map(|payload| self.event(payload)).collect();
        for published in self.bus.publish_batch(events).await {
            published.expect("an acknowledgement");
        }
    }

    async fn window(self: Arc<Self>, width: usize, total: usize, size: usize) {
        concurrently(&self, width, total, size).await;
    }

    async fn consume(&self, group: &str, _: Work, seen: Arc<Seen>) -> Consuming {
        let handler = Arc::clone(&seen);
        let route = Route::from_fn(move |message: Message| {
            handler.saw(message.event.payload());
            async { Ok(()) }
        });
        let options = ConsumeOptions::default().with_batch(BATCH);
        let consuming =
            Consuming::start(Arc::clone(&self.bus), self.topic.clone(), group, route, options).await;
        seen.all().await;
        consuming
    }

    async fn end(consuming: Consuming) {
        consuming.end().await;
    }
}

/// A subscriber at work.
pub(super) struct Consuming {
    stop: CancellationToken,
    running: JoinSet<Result<()>>,
}

impl Consuming {
    pub(super) async fn start(
        bus: Arc<dyn EventBus>,
        topic: Topic,
        group: &str,
        route: Route,
        options: ConsumeOptions,
    ) -> Self {
        let group = Group::parse(group).expect("a valid group");
        let subscriber = Subscriber::new(bus, group, Router::new().route(topic, route))
            .with_options(options)
            .with_start_at(StartAt::Oldest);
        let stop = CancellationToken::new();
        let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
        let mut running = JoinSet::new();
        running.spawn(Box::new(subscriber).run(lifecycle));
        ready
            .wait_for(|ready| *ready)
            .await
            .expect("a subscriber that starts");
        Self { stop, running }
    }

    pub(super) async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no panic").expect("a subscriber that drains");
        }
    }
}
