//! The adapter under core's consume loop: what a service sees.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cqi_core::{
    Error, Result,
    event::{ConsumeOptions, Event, Json, Message, Received, Route, Router, Subscriber, header},
    policy::Retry,
    service::{Lifecycle, Service},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    EventBusHarness,
    kit::{Reader, Scene, number},
};
use crate::{
    conformance::{Failure, Outcome, ensure, ensure_eq},
    eventually,
};

/// A subscriber at work.
struct Running {
    stop: CancellationToken,
    task: JoinSet<Result<()>>,
}

impl Running {
    async fn start(
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

    async fn stop(mut self) -> std::result::Result<Result<()>, Failure> {
        self.stop.cancel();
        match self.task.join_next().await {
            Some(ended) => Ok(ended?),
            None => Err(Failure::new("the subscriber was gone")),
        }
    }
}

/// Short pauses, three attempts, an ack deadline of one step.
fn options(scene: &Scene) -> ConsumeOptions {
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
struct Calls(Arc<Mutex<Vec<(usize, u32)>>>);

impl Calls {
    fn note(&self, message: &Message) -> Result<(usize, u32)> {
        let number = number(&message.event).map_err(|failure| Error::permanent(failure.to_string()))?;
        self.lock().push((number, message.attempt));
        Ok((number, message.attempt))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(usize, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are this many calls.
    async fn wait(&self, scene: &Scene, count: usize) -> Outcome {
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
    async fn exactly(&self, scene: &Scene, count: usize) -> Outcome {
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

fn router<F, Fut>(scene: &Scene, handler: F) -> Router
where
    F: Fn(Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Router::new().route(scene.topic.clone(), Route::from_fn(handler))
}

/// A reader of the dead-letter topic, joined before anything can go there.
async fn dead_letters<H: EventBusHarness>(h: &H, scene: &Scene) -> std::result::Result<Reader, Failure> {
    let subscription = cqi_core::event::Subscription::new(scene.topic.dead_letter(), h.group()?);
    scene.join_as(subscription).await
}

/// A handler that succeeds is called once per event, over the ack deadline and a restart of the subscriber.
pub async fn a_handled_event_is_handled_once<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let calls = Calls::default();
    let handler = {
        let calls = calls.clone();
        move |message: Message| {
            let noted = calls.note(&message).map(drop);
            async move { noted }
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler.clone())).await?;
    scene.publish(0..20).await?;
    calls.exactly(&scene, 20).await?;
    running.stop().await??;
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    calls.exactly(&scene, 20).await?;
    running.stop().await??;
    Ok(())
}

/// An event whose handler fails for a passing reason comes again, attempt by attempt, until it succeeds.
pub async fn a_failed_event_comes_again_until_it_succeeds<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut letters = dead_letters(h, &scene).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            match noted? {
                (_, attempt) if attempt < 3 => Err(Error::temporary("not yet")),
                _ => Ok(()),
            }
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    scene.publish(0..5).await?;
    calls.exactly(&scene, 15).await?;
    running.stop().await??;
    let mut by_number: HashMap<usize, Vec<u32>> = HashMap::new();
    for (number, attempt) in calls.lock().iter() {
        by_number.entry(*number).or_default().push(*attempt);
    }
    ensure!(
        by_number.values().all(|attempts| attempts == &[1, 2, 3]),
        "attempts by event: {by_number:?}"
    );
    letters.nothing("an event that succeeded is a dead letter").await
}

/// Once its attempts are spent, an event is in the dead-letter topic, whole, with the reason in its headers, and comes no
/// more; the other events flow.
pub async fn spent_attempts_make_a_dead_letter<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut letters = dead_letters(h, &scene).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            match noted? {
                (3, _) => Err(Error::temporary("always failing")),
                _ => Ok(()),
            }
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    scene.publish(0..10).await?;
    let letter = letters.expect(3, 1).await?;
    calls.exactly(&scene, 9 + 3).await?;
    running.stop().await??;
    let event = letter.event().clone();
    letter.ack().await?;
    for (name, value) in [
        (header::TOPIC, scene.topic.as_str()),
        (header::GROUP, scene.group.as_str()),
        (header::ATTEMPTS, "3"),
        (header::ERROR_CODE, "TEMPORARY"),
    ] {
        ensure_eq!(event.headers().get(name), Some(value), "header {name}");
    }
    let reason = event.headers().get(header::ERROR).unwrap_or_default();
    ensure!(reason.contains("always failing"), "the reason says {reason:?}");
    letters.nothing("a second dead letter").await
}

/// An error that does not pass, and a body that cannot be decoded, make a dead letter after one attempt.
pub async fn a_lasting_error_makes_a_dead_letter_at_once<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut letters = dead_letters(h, &scene).await?;
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let router = Router::new().on(scene.topic.clone(), move |body: Received<Json<usize>>| {
        count.fetch_add(1, SeqCst);
        async move { Err(Error::permanent(format!("no use for {}", body.0))) }
    });
    let running = Running::start(&scene, options(&scene), router).await?;
    scene.publish([1]).await?;
    let undecodable = Event::builder(scene.topic.clone()).payload("canary{").build()?;
    scene.bus.publish(undecodable).await?;
    let mut codes = Vec::new();
    for letter in letters.take(2).await? {
        ensure_eq!(
            letter.event().headers().get(header::ATTEMPTS),
            Some("1"),
            "attempts"
        );
        let reason = letter.event().headers().get(header::ERROR).unwrap_or_default();
        ensure!(!reason.contains("canary"), "the reason repeats the payload");
        codes.push(
            letter
                .event()
                .headers()
                .get(header::ERROR_CODE)
                .unwrap_or_default()
                .to_owned(),
        );
        letter.ack().await?;
    }
    codes.sort();
    ensure_eq!(codes, ["PERMANENT", "UNDECODABLE"], "error codes");
    letters.nothing("a second dead letter").await?;
    running.stop().await??;
    ensure_eq!(called.load(SeqCst), 1, "calls of the handler");
    Ok(())
}

/// A handler that panics fails its own event only: that one comes again, the loop lives on.
pub async fn a_panicking_handler_fails_its_own_event_only<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            if noted? == (2, 1) {
                // Unwinds as a bug would, without the noise of the panic hook.
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            Ok(())
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    scene.publish(0..5).await?;
    calls.exactly(&scene, 6).await?;
    scene.publish(5..10).await?;
    calls.exactly(&scene, 11).await?;
    running.stop().await??;
    ensure!(
        calls.lock().contains(&(2, 2)),
        "the failed event did not come again: {:?}",
        calls.lock()
    );
    Ok(())
}

/// No more handlers run at once than `concurrency`, and that many do; events of one key run one after another, in order.
pub async fn concurrency_and_keys_are_respected<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let calls = Calls::default();
    let per_key: Arc<Mutex<HashMap<String, Vec<usize>>>> = Arc::default();
    let handler = {
        let (running, most, calls, per_key) = (
            Arc::clone(&running),
            Arc::clone(&most),
            calls.clone(),
            Arc::clone(&per_key),
        );
        let pause = scene.profile.step / 50;
        move |message: Message| {
            let (running, most, noted) = (Arc::clone(&running), Arc::clone(&most), calls.note(&message));
            let (per_key, key) = (
                Arc::clone(&per_key),
                message.event.key().unwrap_or_default().to_owned(),
            );
            async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                let (number, _) = noted?;
                per_key
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(key)
                    .or_default()
                    .push(number);
                sleep(pause).await;
                running.fetch_sub(1, SeqCst);
                Ok(())
            }
        }
    };
    let working = Running::start(
        &scene,
        options(&scene).with_concurrency(4),
        router(&scene, handler),
    )
    .await?;
    for n in 0..64 {
        scene
            .bus
            .publish(scene.keyed(&format!("key-{}", n % 8), n)?)
            .await?;
    }
    calls.exactly(&scene, 64).await?;
    working.stop().await??;
    ensure_eq!(most.load(SeqCst), 4, "the most handlers at once");
    if scene.bus.capabilities().order != cqi_core::event::Order::None {
        for (key, numbers) in per_key.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            ensure!(numbers.is_sorted(), "{key} was handled as {numbers:?}");
        }
    }
    Ok(())
}

/// A handler that takes several ack deadlines keeps its event: nobody else gets it.
pub async fn a_slow_handler_keeps_its_event<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let long = scene.profile.step * 4;
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            sleep(long).await;
            noted.map(drop)
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    let mut other = scene.join_as(scene.short_subscription()).await?;
    // The other member holds nothing, so the subscriber has the event sooner or later.
    scene.publish([1]).await?;
    for delivery in other.some(1, scene.profile.step / 10).await? {
        delivery.nack(cqi_core::event::Redelivery::Release).await?;
    }
    other.deliveries.close().await?;
    drop(other);
    calls.wait(&scene, 1).await?;
    let mut other = scene.join_as(scene.short_subscription()).await?;
    other.nothing_within(long, "the event of a slow handler").await?;
    running.stop().await??;
    other
        .nothing_within(
            scene.profile.step * 2,
            "the event of a slow handler, after it ended",
        )
        .await?;
    ensure_eq!(*calls.lock(), [(1, 1)], "calls of the handler");
    Ok(())
}

/// Stopping while 100 handlers run waits for them: all are acknowledged, nothing comes again, and what was not started is
/// there for the next member with no attempt counted.
pub async fn stopping_waits_for_running_handlers<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let calls = Calls::default();
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let (calls, gate) = (calls.clone(), Arc::clone(&gate));
        move |message: Message| {
            let (noted, gate) = (calls.note(&message), Arc::clone(&gate));
            async move {
                let _open = gate.acquire().await;
                noted.map(drop)
            }
        }
    };
    let options = options(&scene)
        .with_concurrency(100)
        .with_drain_timeout(scene.profile.limit);
    let running = Running::start(&scene, options, router(&scene, handler)).await?;
    scene.publish(0..150).await?;
    calls.wait(&scene, 100).await?;
    let (stopped, ()) = futures::future::join(running.stop(), async {
        sleep(scene.profile.step / 10).await;
        gate.add_permits(1_000);
    })
    .await;
    stopped??;
    let handled: Vec<usize> = calls.lock().iter().map(|(number, _)| *number).collect();
    ensure!(handled.len() >= 100, "{} handlers ran", handled.len());
    let mut reader = scene.join().await?;
    let left: Vec<usize> = (0..150).filter(|n| !handled.contains(n)).collect();
    for _ in 0..left.len() {
        let delivery = reader.one().await?;
        let n = number(delivery.event())?;
        ensure!(left.contains(&n), "event {n} was handled and came again");
        ensure_eq!(delivery.attempt(), 1, "attempt of an event that was not started");
        delivery.ack().await?;
    }
    reader.nothing("a handled event came again").await
}

/// When handlers overrun the drain timeout, stopping says so in time, and their events are there for the next member at
/// once with no attempt counted.
pub async fn handlers_cut_at_shutdown_hand_their_events_back<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            std::future::pending::<()>().await;
            noted.map(drop)
        }
    };
    let options = options(&scene)
        .with_ack_deadline(scene.profile.step * 30)
        .with_drain_timeout(Duration::from_millis(100));
    let running = Running::start(&scene, options, router(&scene, handler)).await?;
    scene.publish(0..4).await?;
    calls.wait(&scene, 4).await?;
    match timeout(scene.profile.limit, running.stop()).await {
        Ok(stopped) => ensure!(stopped?.is_err(), "stopping cut handlers and said Ok"),
        Err(_) => return Err(Failure::new("stopping waits for ever")),
    }
    let mut reader = scene.join().await?;
    for delivery in reader.take(4).await? {
        ensure_eq!(delivery.attempt(), 1, "attempt of an event whose handler was cut");
        delivery.ack().await?;
    }
    Ok(())
}
