//! The memory bus, as a service uses it: published through the port, consumed by subscribers.

use std::sync::Arc;

use bytes::Bytes;
use cqi_core::{
    Result,
    event::{
        ConsumeOptions, Event, EventBus, MemoryBus, MemoryBusOptions, Message, Route, Router, Subscriber,
    },
    name::{Group, Topic, topic_name},
    service::{Lifecycle, Service as _},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Bus, CAPACITY, Handler, Shape};

pub(super) struct Cqi {
    bus: Arc<dyn EventBus>,
    /// The same bus, to be asked when it is idle.
    memory: MemoryBus,
    topic: Topic,
    keys: Vec<Arc<str>>,
    stop: CancellationToken,
    running: JoinSet<Result<()>>,
}

impl Bus for Cqi {
    async fn start(shape: Shape, handler: Handler) -> Self {
        let memory = MemoryBus::new(MemoryBusOptions {
            capacity: CAPACITY,
            ..MemoryBusOptions::default()
        });
        let bus: Arc<dyn EventBus> = Arc::new(memory.clone());
        let (topic, stop) = (
            topic_name("bench").expect("a valid topic"),
            CancellationToken::new(),
        );
        let mut running = JoinSet::new();
        for group in 0..shape.groups {
            let handler = Arc::clone(&handler);
            let route = Route::from_fn(move |message: Message| {
                let handler = Arc::clone(&handler);
                async move {
                    handler(group, message.event.payload());
                    Ok(())
                }
            });
            let name = Group::parse(&format!("group-{group}")).expect("a valid group");
            let options = ConsumeOptions::default().with_concurrency(shape.concurrency);
            let subscriber =
                Subscriber::new(Arc::clone(&bus), name, Router::new().route(topic.clone(), route))
                    .with_options(options);
            let (lifecycle, mut ready) = Lifecycle::new(stop.child_token());
            running.spawn(Box::new(subscriber).run(lifecycle));
            ready
                .wait_for(|ready| *ready)
                .await
                .expect("a subscriber that starts");
        }
        let keys = (0..shape.keys).map(|key| format!("key-{key}").into()).collect();
        Self {
            bus,
            memory,
            topic,
            keys,
            stop,
            running,
        }
    }

    async fn publish(&mut self, number: usize, payload: Bytes) {
        let mut event = Event::builder(self.topic.clone()).payload(payload);
        if !self.keys.is_empty() {
            event = event.key(Arc::clone(&self.keys[number % self.keys.len()]));
        }
        let event = event.build().expect("a valid event");
        self.bus.publish(event).await.expect("an acknowledgement");
    }

    async fn settled(&mut self) {
        self.memory.idle().await;
    }

    async fn close(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no panic").expect("a subscriber that drains");
        }
    }
}
