//! How a subscriber joins its groups.

use async_trait::async_trait;

use super::*;
use crate::event::{Capabilities, Deliveries};

/// How long [`Slow`] takes.
const JOINING: Duration = Duration::from_secs(3);

/// A bus whose groups take their time to join.
#[derive(Debug, Default)]
struct Slow(MemoryBus);

#[async_trait]
impl EventBus for Slow {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn publish(&self, event: Event) -> Result<()> {
        self.0.publish(event).await
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        self.0.publish_batch(events).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        tokio::time::sleep(JOINING).await;
        self.0.subscribe(subscription).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// A subscriber of ten topics.
fn subscriber() -> Box<Subscriber> {
    let handler = |_: Number| async { Ok(()) };
    let topics = (0..10).map(|n| topic_name(&format!("number_{n}")).unwrap());
    let router = topics.fold(Router::new(), |router, topic| router.on(topic, handler));
    let group = Group::parse("g").unwrap();
    Box::new(Subscriber::new(Arc::new(Slow::default()), group, router))
}

#[tokio::test(start_paused = true)]
async fn groups_are_joined_side_by_side() {
    let stop = CancellationToken::new();
    let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
    let started = Instant::now();
    let (ended, ()) = tokio::join!(subscriber().run(lifecycle), async {
        ready.wait_for(|ready| *ready).await.unwrap();
        assert_eq!(started.elapsed(), JOINING);
        stop.cancel();
    });
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f_life_03_a_wish_to_stop_is_heard_while_groups_are_joined() {
    let stop = CancellationToken::new();
    let (lifecycle, ready) = Lifecycle::new(stop.clone());
    let started = Instant::now();
    let (ended, ()) = tokio::join!(subscriber().run(lifecycle), async {
        tokio::time::sleep(JOINING / 3).await;
        stop.cancel();
    });
    ended.unwrap();
    assert_eq!((started.elapsed(), *ready.borrow()), (JOINING / 3, false));
}
