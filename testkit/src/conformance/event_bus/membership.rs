//! Members that join, leave and vanish.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cqi_core::event::Delivery;
use futures::FutureExt;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
    EventBusHarness,
    groups::share,
    kit::{Scene, number, until},
};
use crate::conformance::{Failure, Outcome, cut, ensure};

/// How many deliveries a member that comes and goes takes at once.
const BATCH: usize = 10;

/// A member that joins later gets its share of what is published from then on.
pub async fn a_late_member_gets_its_share<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut first = scene.join().await?;
    scene.publish(0..10).await?;
    first.read_all(0..10).await?;
    let mut members = [first, scene.join().await?];
    let shares = share(&scene, &mut members).await?;
    ensure!(shares[1] > 0, "shares of the members: {shares:?}");
    Ok(())
}

/// When a member leaves, the others get what it had not taken, at once, and what it had not settled, after the deadline.
pub async fn a_leaving_member_hands_over<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut leaving = scene.join_as(scene.short_subscription()).await?;
    let mut staying = scene.join_as(scene.short_subscription()).await?;
    scene.publish(0..50).await?;
    let held = leaving.some(5, scene.profile.limit).await?;
    drop(leaving);
    staying.read_all(0..50).await?;
    drop(held);
    Ok(())
}

/// A `next` that is dropped while it waits, or just as something comes, loses nothing.
pub async fn a_cancelled_next_loses_nothing<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    let count = scene.profile.count(200, 50);
    let mut seen = HashMap::new();
    for n in 0..count {
        // Each of these is dropped at another point of its work; what one gives is kept.
        let mut given = vec![match reader.deliveries.next(10).now_or_never() {
            Some(Some(batch)) => batch?, // of an earlier round, on a slow machine
            _ => Vec::new(),
        }];
        scene.publish([n]).await?;
        for wait in [0, 1, 3] {
            given.push(reader.some(10, Duration::from_millis(wait)).await?);
            for delivery in given.drain(..).flatten() {
                *seen.entry(number(delivery.event())?).or_insert(0) += 1;
                ensure!(
                    delivery.attempt() == 1,
                    "a delivery was lost: attempt {}",
                    delivery.attempt()
                );
                delivery.ack().await?;
            }
        }
    }
    while seen.len() < count {
        let delivery = reader.one().await?;
        *seen.entry(number(delivery.event())?).or_insert(0) += 1;
        // A second attempt means that the first one was given to a future that is gone.
        ensure!(
            delivery.attempt() == 1,
            "a delivery was lost: attempt {}",
            delivery.attempt()
        );
        delivery.ack().await?;
    }
    Ok(())
}

/// A `subscribe` dropped after any number of steps leaves no member behind that takes events and never settles them.
pub async fn a_cancelled_subscribe_leaves_no_member<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.join().await?.deliveries.close().await?; // the group exists from here on
    for steps in 0..6 {
        drop(cut(scene.bus.subscribe(scene.subscription()), steps).await);
    }
    let mut reader = scene.join().await?;
    for n in 0..50 {
        scene.bus.publish(scene.keyed(&format!("key-{n}"), n)?).await?;
    }
    sleep(Duration::from_millis(10)).await; // time for such a member to take what it can
    for _ in 0..50 {
        let delivery = reader.one().await?;
        ensure!(
            delivery.attempt() == 1,
            "somebody else had the event before: attempt {}",
            delivery.attempt()
        );
        delivery.ack().await?;
    }
    Ok(())
}

/// 10,000 events flow while members join, leave and vanish: nothing is lost, and no more comes twice than the vanished
/// members had in hand.
pub async fn members_come_and_go_during_flow<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::new(h).await?);
    let events = scene.profile.count(10_000, 500);
    let flow = Arc::new(Flow::default());
    let (progress, seen) = watch::channel(0);
    let mut tasks = JoinSet::new();
    drop(scene.join_as(scene.short_subscription()).await?); // the group exists from here on
    for publisher in 0..10 {
        let scene = Arc::clone(&scene);
        tasks.spawn(async move { scene.publish((publisher..events).step_by(10)).await });
    }
    for member in 0..5_usize {
        let (scene, flow, progress) = (Arc::clone(&scene), Arc::clone(&flow), progress.clone());
        tasks.spawn(async move {
            for round in 0.. {
                let mut reader = scene.join_as(scene.short_subscription()).await?;
                for _ in 0..(20 + member * 7) {
                    flow.settle(reader.some(BATCH, scene.profile.step).await?).await?;
                    let all = lock(&flow.seen).len();
                    progress.send_if_modified(|seen| all > std::mem::replace(seen, all.max(*seen)));
                }
                match (round + member) % 3 {
                    0 => reader.deliveries.close().await?,
                    1 => drop(reader),
                    _ => *lock(&flow.vanished) += reader.some(BATCH, Duration::from_millis(1)).await?.len(),
                }
            }
            Ok(())
        });
    }
    until(&mut tasks, seen, events, scene.profile).await?;
    // Until nothing is left, for longer than the ack deadline.
    let mut last = scene.join_as(scene.short_subscription()).await?;
    let silence = scene.profile.quiet.max(scene.profile.step * 2);
    while flow.settle(last.some(BATCH, silence).await?).await? {}
    let total: usize = lock(&flow.seen).values().sum();
    let (duplicates, vanished) = (total - events, *lock(&flow.vanished));
    ensure!(
        duplicates <= vanished,
        "{duplicates} duplicates, {vanished} were in the hands of vanished members"
    );
    Ok(())
}

/// What members that come and go have seen.
#[derive(Default)]
struct Flow {
    /// How often each event was acknowledged.
    seen: Mutex<HashMap<usize, usize>>,
    /// Deliveries that members had in hand when they vanished.
    vanished: Mutex<usize>,
}

impl Flow {
    /// Acknowledges and notes deliveries. Returns whether there were any.
    async fn settle(&self, batch: Vec<Delivery>) -> Result<bool, Failure> {
        let any = !batch.is_empty();
        for delivery in batch {
            let n = number(delivery.event())?;
            delivery.ack().await?;
            *lock(&self.seen).entry(n).or_default() += 1;
        }
        Ok(any)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ten subscriptions opened and closed at once disturb nothing: 50 events published then all arrive.
pub async fn subscribing_and_leaving_many_times_loses_nothing<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Arc::new(Scene::new(h).await?);
    let mut tasks = JoinSet::new();
    for n in 0..10 {
        let scene = Arc::clone(&scene);
        tasks.spawn(async move {
            let mut reader = scene.join().await?;
            sleep(Duration::from_millis(n)).await;
            if n % 2 == 0 {
                reader.deliveries.close().await?;
                reader.deliveries.close().await?; // leaving twice is leaving
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    scene.publish(0..50).await?;
    scene.join().await?.read_all(0..50).await?;
    Ok(())
}

/// A group that is left and joined up to 20 times while it reads 5,000 events gets all of them.
pub async fn reopened_subscriptions_go_on_where_they_were<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let (events, reopens) = (scene.profile.count(5_000, 100), scene.profile.count(20, 4));
    let mut reader = scene.join().await?;
    let mut seen = vec![false; events];
    let part = events / reopens;
    for round in 0..reopens {
        scene.publish(round * part..(round + 1) * part).await?;
        let mut taken = 0;
        while taken < part / 2 {
            for delivery in reader.some(16, scene.profile.limit).await? {
                taken += 1;
                let n = number(delivery.event())?;
                ensure!(!std::mem::replace(&mut seen[n], true), "event {n} came twice");
                delivery.ack().await?;
            }
        }
        reader.deliveries.close().await?;
        reader = scene.join().await?;
    }
    let missing = (0..events).filter(|n| !seen[*n]);
    reader.read_all(missing).await?;
    Ok(())
}
