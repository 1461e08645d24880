//! A subscriber at work, for the cases over core's consume loop.

use std::sync::{Arc, Mutex, PoisonError};

use cqi_core::{
    Error, Result,
    event::{ConsumeOptions, Message, Route, Router, Subscriber, Subscription},
    policy::Retry,
    service::{Lifecycle, Service},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    EventBusHarness,
    kit::{Reader, Scene, number},
};
use crate::{
    conformance::{Failure, Outcome, ensure},
    eventually,
};

/// A subscriber at work.
pub(super) struct Running {
    stop: CancellationToken,
    task: JoinSet<Result<()>>,
}

impl Running {
    pub(super) async fn start(
        scene: &Scene,
        options: ConsumeOptions,
        router: Router,
    ) -> std::result::Result<Self, Failure> {
        let subscriber =
            Subscriber::new(Arc::clone(&scene.bus), scene.group.clone(), router).with_options(options);
        let stop = CancellationToken::new();
        let (lifecycle, mut ready) = Lifecycle::new(stop.clone());
        let mut task = JoinSet::new();
        task.spawn(Box::new(subscriber).run(lifecycle));
        match timeout(scene.profile.limit, ready.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(Self { stop, task }),
            _ => Err(Failure::new("the subscriber did not become ready")),
        }
    }

    pub(super) async fn stop(mut self) -> std::result::Result<Result<()>, Failure> {
        self.stop.cancel();
        match self.task.join_next().await {
            Some(ended) => Ok(ended?),
            None => Err(Failure::new("the subscriber was gone")),
        }
    }
}

/// Short pauses, three attempts, an ack deadline of one step.
pub(super) fn options(scene: &Scene) -> ConsumeOptions {
    let retry = Retry {
        initial: scene.profile.step / 50,
        ..Retry::default()
    };
    ConsumeOptions::default()
        .with_retry(retry)
        .with_ack_deadline(scene.profile.step)
}

/// What a handler was called with: number and attempt.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Vec<(usize, u32)>>>);

impl Calls {
    pub(super) fn note(&self, message: &Message) -> Result<(usize, u32)> {
        let number = number(&message.event).map_err(|failure| Error::permanent(failure.to_string()))?;
        self.lock().push((number, message.attempt));
        Ok((number, message.attempt))
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(usize, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are this many calls.
    pub(super) async fn wait(&self, scene: &Scene, count: usize) -> Outcome {
        eventually("the handler is called", scene.profile.limit, async || {
            let calls = self.lock();
            if calls.len() >= count {
                Ok(())
            } else {
                Err(format!("{} of {count} calls", calls.len()))
            }
        })
        .await
    }

    /// Waits until there are this many calls, and fails if more follow.
    pub(super) async fn exactly(&self, scene: &Scene, count: usize) -> Outcome {
        self.wait(scene, count).await?;
        sleep(scene.profile.step * 2).await;
        let calls = self.lock();
        ensure!(
            calls.len() == count,
            "{} calls, expected {count}: {calls:?}",
            calls.len()
        );
        Ok(())
    }
}

pub(super) fn router<F, Fut>(scene: &Scene, handler: F) -> Router
where
    F: Fn(Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Router::new().route(scene.topic.clone(), Route::from_fn(handler))
}

/// A reader of the dead-letter topic, joined before anything can go there.
pub(super) async fn dead_letters<H: EventBusHarness>(
    h: &H,
    scene: &Scene,
) -> std::result::Result<Reader, Failure> {
    let subscription = Subscription::new(scene.topic.dead_letter(), h.group()?);
    scene.join_as(subscription).await
}
