//! Closing.

use std::{sync::Arc, time::Duration};

use cqi_core::{Code, Kind, event::Redelivery};
use tokio::{task::JoinSet, time::timeout};

use super::{
    EventBusHarness,
    kit::{Scene, numbered},
};
use crate::conformance::{Failure, Outcome, cut, ensure, ensure_eq, refused};

/// A second close is `Ok`; every other call is then `Permanent`/`Closed`.
pub async fn close_is_idempotent_and_final<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.publish([0]).await?;
    scene.bus.close().await?;
    scene.bus.close().await?;
    let closed = Some(Code::Closed);
    refused(
        "publish",
        scene.bus.publish(scene.event(1)?).await,
        Kind::Permanent,
        closed,
    )?;
    let results = scene
        .bus
        .publish_batch(vec![scene.event(2)?, scene.event(3)?])
        .await;
    ensure_eq!(results.len(), 2, "results of a batch");
    for result in results {
        refused("publish_batch", result, Kind::Permanent, closed)?;
    }
    let answer = scene.bus.subscribe(scene.subscription()).await;
    refused("subscribe", answer, Kind::Permanent, closed)?;
    refused("ping", scene.bus.ping().await, Kind::Permanent, closed)?;
    ensure!(
        scene.bus.capabilities().max_payload > 0,
        "capabilities are known after close"
    );
    Ok(())
}

/// A `close` dropped after any number of steps can be repeated, and then the bus is closed.
pub async fn a_cancelled_close_can_be_repeated<H: EventBusHarness>(h: &H) -> Outcome {
    // A bus whose handles are all the bus itself is closed once.
    let rounds = if h.closes_apart() { 4 } else { 1 };
    for steps in 0..rounds {
        let scene = Scene::new(h).await?;
        let mut reader = scene.join().await?;
        scene.publish(0..3).await?;
        let held = reader.one().await?;
        drop(cut(scene.bus.close(), steps).await);
        match timeout(scene.profile.limit, scene.bus.close()).await {
            Ok(closed) => closed?,
            Err(_) => return Err(Failure::new("close hangs after one that was dropped")),
        }
        refused(
            "publish",
            scene.bus.publish(scene.event(4)?).await,
            Kind::Permanent,
            Some(Code::Closed),
        )?;
        drop(held);
        let end = timeout(scene.profile.limit, async {
            while reader.deliveries.next(1).await.is_some() {}
        });
        ensure!(end.await.is_ok(), "next did not end after close");
    }
    Ok(())
}

/// A `next` that waits ends with `None` when the bus is closed, and so does every later one.
pub async fn close_ends_a_waiting_next<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    let close = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        scene.bus.close().await
    };
    let both = futures::future::join(reader.deliveries.next(1), close);
    let Ok((next, closed)) = timeout(scene.profile.limit, both).await else {
        return Err(Failure::new("next did not end after close"));
    };
    closed?;
    ensure!(next.is_none(), "next after close gave {next:?}");
    let again = timeout(scene.profile.limit, reader.deliveries.next(1)).await;
    ensure!(matches!(again, Ok(None)), "a later next gave {again:?}");
    timeout(scene.profile.limit, reader.deliveries.close())
        .await
        .map_err(|_| Failure::new("leaving a closed bus hangs"))??;
    Ok(())
}

/// Closes at the same time all end with `Ok`.
pub async fn concurrent_closes_agree<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let reader = scene.join().await?;
    scene.publish(0..10).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let bus = Arc::clone(&scene.bus);
        tasks.spawn(async move { bus.close().await });
    }
    while let Some(done) = timeout(scene.profile.limit, tasks.join_next())
        .await
        .map_err(|_| Failure::new("close hangs"))?
    {
        done??;
    }
    drop(reader);
    Ok(())
}

/// While the bus closes, each publish either stores its event or is an error: `Ok` is never said for nothing.
pub async fn an_event_published_during_close_is_stored_or_refused<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    drop(scene.join().await?); // the group exists from here on
    let mut tasks = JoinSet::new();
    for publisher in 0..20_usize {
        let (bus, topic) = (Arc::clone(&scene.bus), scene.topic.clone());
        tasks.spawn(async move {
            let mut stored = Vec::new();
            for n in 0..10_000 {
                let n = publisher * 10_000 + n;
                match bus.publish(numbered(&topic, None, n)?).await {
                    Ok(()) => stored.push(n),
                    Err(error) if error.code() == Some(Code::Closed) => return Ok(stored),
                    Err(error) if error.is_temporary() => return Ok(stored),
                    Err(error) => return Err(Failure::from(error)),
                }
            }
            Err(Failure::new("close did not end publishing"))
        });
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    scene.bus.close().await?;
    let mut stored = Vec::new();
    while let Some(done) = tasks.join_next().await {
        stored.extend(done??);
    }
    if h.closes_apart() {
        let second = h.connect().await?;
        scene
            .join_on(&second, scene.subscription())
            .await?
            .read_all(stored)
            .await?;
    }
    Ok(())
}

/// Settling a delivery after the bus was closed ends, with `Ok` or an error; it neither hangs nor panics.
pub async fn settling_after_close_ends<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish(0..3).await?;
    let deliveries = reader.take(3).await?;
    scene.bus.close().await?;
    for (n, delivery) in deliveries.into_iter().enumerate() {
        let settle = async {
            match n {
                0 => delivery.ack().await,
                1 => delivery.nack(Redelivery::Release).await,
                _ => delivery.extend().await,
            }
        };
        let Ok(answer) = timeout(scene.profile.limit, settle).await else {
            return Err(Failure::new("settling after close hangs"));
        };
        if let Err(error) = answer {
            ensure!(!error.is_invalid_input(), "settling after close: {error}");
        }
    }
    Ok(())
}

/// BUS-21: `close` flushes.
///
/// What was acknowledged and published just before `close` is settled and stored, as another connection sees.
pub async fn what_was_done_before_close_lasts<H: EventBusHarness>(h: &H) -> Outcome {
    if !h.closes_apart() {
        return Err(Failure::not_applicable(
            "closing one handle closes the bus, and what it held is gone",
        ));
    }
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    scene.publish([1]).await?;
    let delivery = reader.expect(1, 1).await?;
    scene.publish([2]).await?;
    delivery.ack().await?;
    scene.bus.close().await?;
    drop(reader);

    let second = h.connect().await?;
    let mut reader = scene.join_on(&second, scene.short_subscription()).await?;
    let seen = reader.read_all([2]).await?;
    ensure!(
        !seen.contains_key(&1),
        "an event acknowledged before close came back"
    );
    reader
        .nothing_within(
            scene.profile.step * 2,
            "an event acknowledged before close came back",
        )
        .await
}
