//! The adapter under core's consume loop: how handlers run, and how they end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cqi_core::event::{Message, Order, Redelivery};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    EventBusHarness,
    kit::{Scene, number},
    running::{Calls, Running, options, router},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq};

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
    if scene.bus.capabilities().order != Order::None {
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
        delivery.nack(Redelivery::Release).await?;
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
