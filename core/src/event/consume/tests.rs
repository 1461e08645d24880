//! The loop over the memory bus: what the tests have in common.

mod auth;
mod drain;
mod layers;
mod leases;
mod order;
mod settlement;
mod start;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Result,
    event::{
        ConsumeOptions, DeadLetter, Event, EventBus, EventBusExt, Json, MemoryBus, Received, Router,
        Subscriber, Subscription, header, middleware,
    },
    name::{Group, Topic, topic_name},
    policy::Retry,
    request::remaining_time,
    service::{Lifecycle, Service},
};

type Number = Received<Json<u32>>;

fn topic() -> Topic {
    topic_name("number").unwrap()
}

struct Running {
    bus: Arc<dyn EventBus>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(router: Router, options: ConsumeOptions) -> Self {
        Self::start_on(Arc::new(MemoryBus::default()), router, options).await
    }

    async fn start_on(bus: Arc<dyn EventBus>, router: Router, options: ConsumeOptions) -> Self {
        let subscriber =
            Subscriber::new(Arc::clone(&bus), Group::parse("g").unwrap(), router).with_options(options);
        let stop = CancellationToken::new();
        let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
        #[allow(clippy::disallowed_methods)] // the test owns the handle
        let task = tokio::spawn(Box::new(subscriber).run(lifecycle));
        ready.wait_for(|ready| *ready).await.unwrap();
        Self { bus, stop, task }
    }

    async fn send(&self, number: u32, key: Option<&str>) -> Event {
        self.bus.send(topic(), key, &Json(number)).await.unwrap()
    }

    async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.unwrap()
    }

    async fn dead_letters(&self) -> Box<dyn crate::event::Deliveries> {
        let group = Group::parse("letters").unwrap();
        self.bus
            .subscribe(Subscription::new(topic().dead_letter(), group))
            .await
            .unwrap()
    }
}

/// A handler that reports each call with its attempt, then answers what `answer` says.
fn reporting(
    answer: impl Fn(u32, u32) -> Result<()> + Clone + Send + Sync + 'static,
) -> (Router, mpsc::Receiver<(u32, u32)>) {
    let (tx, rx) = mpsc::channel(1000);
    let router = Router::new().on(topic(), move |number: Number| {
        let (tx, answer) = (tx.clone(), answer.clone());
        async move {
            tx.send((number.0, number.attempt())).await.unwrap();
            answer(number.0, number.attempt())
        }
    });
    (router, rx)
}
