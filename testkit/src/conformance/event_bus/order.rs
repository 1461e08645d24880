//! The order within a key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cqi_core::event::{Order, Redelivery};
use tokio::{sync::watch, task::JoinSet};

use super::{
    EventBusHarness,
    kit::{Reader, Scene, number, until},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq};

/// What came, per key, in the order it came.
type Log = Arc<Mutex<HashMap<String, Vec<usize>>>>;

/// 16 keys with 1,000 events each, read by 10 members: the first deliveries of every key come in order.
pub async fn order_holds_per_key_under_many_members<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    if scene.bus.capabilities().order == Order::None {
        return Err(Failure::not_applicable("the bus declares no order"));
    }
    let (keys, each) = (16, scene.profile.count(1_000, 100));
    let log = Log::default();
    let (progress, seen) = watch::channel(0);
    let mut members = JoinSet::new();
    for _ in 0..scene.profile.count(10, 5) {
        let (reader, log, progress) = (scene.join().await?, Arc::clone(&log), progress.clone());
        members.spawn(read_into(reader, log, progress, scene.profile.limit));
    }
    for n in 0..each {
        let batch = (0..keys)
            .map(|key| super::kit::numbered(&scene.topic, Some(&format!("key-{key}")), n))
            .collect::<Result<Vec<_>, _>>()?;
        for result in scene.bus.publish_batch(batch).await {
            result?;
        }
    }
    until(&mut members, seen, keys * each, scene.profile).await?;
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    ensure_eq!(log.len(), keys, "keys seen");
    for (key, numbers) in log.iter() {
        let first_break = numbers.windows(2).find(|pair| pair[0] >= pair[1]);
        ensure!(first_break.is_none(), "{key}: {first_break:?} came in this order");
        ensure_eq!(numbers.len(), each, "events of {key}");
    }
    Ok(())
}

/// Notes first deliveries, and acknowledges all, until it is stopped.
async fn read_into(mut reader: Reader, log: Log, progress: watch::Sender<usize>, limit: Duration) -> Outcome {
    loop {
        for delivery in reader.some(8, limit).await? {
            if delivery.attempt() == 1 {
                let key = delivery.event().key().unwrap_or_default().to_owned();
                let number = number(delivery.event())?;
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(key)
                    .or_default()
                    .push(number);
                progress.send_modify(|seen| *seen += 1);
            }
            delivery.ack().await?;
        }
    }
}

/// The events of one batch and key come in the order of the batch.
pub async fn order_holds_within_a_batch<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    if scene.bus.capabilities().order == Order::None {
        return Err(Failure::not_applicable("the bus declares no order"));
    }
    let mut reader = scene.join().await?;
    let batch = (0..50)
        .map(|n| scene.keyed("k", n))
        .collect::<Result<Vec<_>, _>>()?;
    for result in scene.bus.publish_batch(batch).await {
        result?;
    }
    for n in 0..50 {
        reader.expect(n, 1).await?.ack().await?;
    }
    Ok(())
}

/// With strict order, an event that is retried is not overtaken by later ones of its key, whoever reads.
pub async fn strict_order_holds_across_a_retry<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    if scene.bus.capabilities().order != Order::PerKeyStrict {
        return Err(Failure::not_applicable("the bus declares no strict order"));
    }
    let mut readers = [scene.join().await?, scene.join().await?];
    for n in 0..20 {
        scene.bus.publish(scene.keyed("k", n)?).await?;
    }
    let pause = if scene.bus.capabilities().delayed_redelivery {
        scene.profile.step
    } else {
        Duration::ZERO
    };
    let mut handled = Vec::new();
    while handled.len() < 20 {
        let [one, two] = &mut readers;
        let batch = tokio::select! {
            batch = one.some(8, scene.profile.limit) => batch?,
            batch = two.some(8, scene.profile.limit) => batch?,
        };
        ensure!(!batch.is_empty(), "after {handled:?} nothing came");
        for delivery in batch {
            // Every third event fails twice before it succeeds.
            let n = number(delivery.event())?;
            if n % 3 == 0 && delivery.attempt() < 3 {
                delivery.nack(Redelivery::After(pause)).await?;
                break; // the rest of a batch would be behind the failed one
            }
            handled.push(n);
            delivery.ack().await?;
        }
    }
    ensure_eq!(handled, (0..20).collect::<Vec<_>>(), "order of handling");
    Ok(())
}

/// With strict order, a member that vanishes with an event in hand holds back the later events of the key until the ack
/// deadline gives its event to another member.
pub async fn strict_order_holds_across_a_lost_member<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    if scene.bus.capabilities().order != Order::PerKeyStrict {
        return Err(Failure::not_applicable("the bus declares no strict order"));
    }
    let mut lost = scene.join_as(scene.short_subscription()).await?;
    for n in 0..10 {
        scene.bus.publish(scene.keyed("k", n)?).await?;
    }
    let held = lost.some(1, scene.profile.limit).await?;
    ensure_eq!(held.len(), 1, "deliveries of next(1)");
    drop((lost, held));
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    for n in 0..10 {
        reader.expect(n, if n == 0 { 2 } else { 1 }).await?.ack().await?;
    }
    Ok(())
}

/// While an event of one key is worked on or retried, other keys flow.
pub async fn a_held_back_key_does_not_stall_others<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.bus.publish(scene.keyed("slow", 0)?).await?;
    let held = reader.expect(0, 1).await?;
    for n in 1..50 {
        scene.bus.publish(scene.keyed(&format!("key-{n}"), n)?).await?;
    }
    reader.read_all(1..50).await?;
    held.ack().await?;
    Ok(())
}
