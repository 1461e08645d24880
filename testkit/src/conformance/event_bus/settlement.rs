//! Acknowledging, refusing and handing back.

use std::{collections::HashMap, time::Duration};

use cqi_core::event::{Redelivery, Subscription};
use tokio::time::Instant;

use super::{
    EventBusHarness,
    kit::{Reader, Scene, number},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq};

const AT_ONCE: Redelivery = Redelivery::After(Duration::ZERO);

/// What was acknowledged does not come back: not after the ack deadline, and not to a second connection.
pub async fn an_acked_event_never_returns<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    scene.publish(0..5).await?;
    for delivery in reader.take(5).await? {
        delivery.ack().await?;
    }
    reader
        .nothing_within(scene.profile.step * 3, "an acked event came back")
        .await?;
    reader.deliveries.close().await?;

    let second = h.connect().await?;
    let mut reader = scene.join_on(&second, scene.short_subscription()).await?;
    reader
        .nothing_within(
            scene.profile.step * 2,
            "an acked event came to a second connection",
        )
        .await?;
    scene.publish([5]).await?;
    reader.expect(5, 1).await?.ack().await?;
    Ok(())
}

/// Each negative acknowledgement brings the event back, with the attempt one higher.
pub async fn a_nack_redelivers_and_counts_each_attempt<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish([7]).await?;
    for attempt in 1..=5 {
        reader.expect(7, attempt).await?.nack(AT_ONCE).await?;
    }
    reader.expect(7, 6).await?.ack().await?;
    reader.nothing("an acked event came back").await
}

/// A negative acknowledgement brings back its own event only.
pub async fn a_nack_leaves_other_events_alone<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish(0..10).await?;
    for delivery in reader.take(10).await? {
        if number(delivery.event())? == 4 {
            delivery.nack(AT_ONCE).await?;
        } else {
            delivery.ack().await?;
        }
    }
    reader.expect(4, 2).await?.ack().await?;
    reader.nothing("an acked event came back").await
}

/// 50 events refused 100 times by 3 members each still arrive, with the attempts counted.
pub async fn a_storm_of_nacks_loses_nothing<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let (members, nacks) = (scene.profile.count(3, 1), scene.profile.count(100, 5));
    let mut refused: HashMap<usize, u32> = HashMap::new();
    let mut readers: Vec<Reader> = Vec::new();
    for _ in 0..members {
        readers.push(scene.join().await?);
    }
    scene.publish(0..50).await?;
    for reader in &mut readers {
        let mut left = nacks;
        while left > 0 {
            for delivery in reader.some(left, scene.profile.limit).await? {
                *refused.entry(number(delivery.event())?).or_default() += 1;
                delivery.nack(AT_ONCE).await?;
                left -= 1;
            }
        }
    }
    // One member goes on: what a bus pushed ahead to the others comes back when they leave.
    let mut reader = readers.remove(0);
    for mut other in readers {
        other.deliveries.close().await?;
    }
    for _ in 0..50 {
        let delivery = reader.one().await?;
        let n = number(delivery.event())?;
        ensure_eq!(
            delivery.attempt(),
            refused.get(&n).copied().unwrap_or(0) + 1,
            "attempt of event {n}"
        );
        delivery.ack().await?;
    }
    Ok(())
}

/// A delayed redelivery comes not before the pause and not long after it. A bus without delays redelivers at once or
/// says `Unsupported` and leaves the delivery as it was.
pub async fn a_delayed_nack_has_a_floor_and_a_ceiling<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish([1]).await?;
    let pause = scene.profile.step * 2;
    let delivery = reader.expect(1, 1).await?;
    let start = Instant::now();
    if scene.bus.capabilities().delayed_redelivery {
        delivery.nack(Redelivery::After(pause)).await?;
        let delivery = reader.expect(1, 2).await?;
        let waited = start.elapsed();
        ensure!(waited >= pause, "came back after {waited:?}, asked for {pause:?}");
        ensure!(
            waited <= pause * 2,
            "came back after {waited:?}, asked for {pause:?}"
        );
        delivery.ack().await?;
        return Ok(());
    }
    let (_, _, lease) = delivery.into_parts();
    match lease.nack(Redelivery::After(pause)).await {
        Ok(()) => {
            let delivery = reader.expect(1, 2).await?;
            ensure!(start.elapsed() < pause, "a bus that declares no delay keeps one");
            delivery.ack().await?;
        }
        Err(error) => {
            ensure_eq!(error.code(), Some(cqi_core::Code::Unsupported), "code of {error}");
            lease.ack().await?;
        }
    }
    Ok(())
}

/// A released event comes back at once, to whoever asks, and its attempt is not counted.
pub async fn a_released_event_returns_with_no_attempt_counted<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish([1]).await?;
    for _ in 0..3 {
        reader.expect(1, 1).await?.nack(Redelivery::Release).await?;
    }
    // A counted failure in between counts once.
    reader.expect(1, 1).await?.nack(AT_ONCE).await?;
    reader.expect(1, 2).await?.nack(Redelivery::Release).await?;
    reader.deliveries.close().await?;

    let second = h.connect().await?;
    let mut other = scene.join_on(&second, scene.subscription()).await?;
    other.expect(1, 2).await?.ack().await?;
    Ok(())
}

/// Acknowledging a later event does not consume the earlier ones: they come back when nobody settles them.
pub async fn an_out_of_order_ack_leaves_earlier_events<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    scene.publish(0..3).await?;
    for delivery in reader.take(3).await? {
        if number(delivery.event())? == 2 {
            delivery.ack().await?;
        } else {
            drop(delivery);
        }
    }
    let seen = reader.read_all([0, 1]).await?;
    ensure!(!seen.contains_key(&2), "the acked event came back: {seen:?}");
    Ok(())
}

/// The second settlement of a delivery neither panics nor changes what the first one did.
pub async fn settling_twice_changes_nothing<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish(0..2).await?;
    for delivery in reader.take(2).await? {
        let (_, _, lease) = delivery.into_parts();
        lease.ack().await?;
        // Ok and FailedPrecondition are both fine answers; what counts is that the events stay away.
        for again in [lease.ack().await, lease.nack(AT_ONCE).await, lease.extend().await] {
            if let Err(error) = again {
                let code = error.code();
                if code != Some(cqi_core::Code::FailedPrecondition) {
                    return Err(Failure::new(format!("settling twice: {code:?} ({error})")));
                }
            }
        }
    }
    reader.nothing("an acked event came back").await?;
    drop(reader);
    let again = Subscription::new(scene.topic.clone(), scene.group.clone());
    scene
        .join_as(again)
        .await?
        .nothing("an acked event came back")
        .await
}
