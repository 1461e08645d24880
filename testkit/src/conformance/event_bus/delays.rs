//! Redelivery after a pause.

use std::time::Duration;

use cqi_core::event::Redelivery;
use tokio::time::Instant;

use super::{
    EventBusHarness,
    kit::{Scene, number},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq};

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

/// Delays run side by side: a short one does not wait for a longer one that began before it.
pub async fn a_short_delay_does_not_wait_for_a_longer_one<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    if !scene.bus.capabilities().delayed_redelivery {
        return Err(Failure::not_applicable("the bus declares no delayed redelivery"));
    }
    let mut reader = scene.join().await?;
    for (n, key) in ["long", "short"].into_iter().enumerate() {
        scene.bus.publish(scene.keyed(key, n)?).await?;
    }
    let step = scene.profile.step;
    let mut deliveries = reader.take(2).await?;
    deliveries.sort_by_key(|delivery| delivery.event().key() == Some("short"));
    let start = Instant::now();
    for (delivery, pause) in deliveries.into_iter().zip([step * 5, step]) {
        delivery.nack(Redelivery::After(pause)).await?;
    }
    for (n, floor, ceiling) in [(1, step, step * 3), (0, step * 5, step * 8)] {
        reader.expect(n, 2).await?.ack().await?;
        let waited = start.elapsed();
        ensure!(
            (floor..=ceiling).contains(&waited),
            "event {n} came back after {waited:?}, expected {floor:?} to {ceiling:?}"
        );
    }
    reader.nothing("an acked event came back").await
}

/// Delays last when the member that asked for them leaves: whoever joins then waits for the rest of each.
pub async fn a_delay_outlives_its_member<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    if !scene.bus.capabilities().delayed_redelivery {
        return Err(Failure::not_applicable("the bus declares no delayed redelivery"));
    }
    let mut leaving = scene.join().await?;
    for n in 0..8 {
        scene.bus.publish(scene.keyed(&format!("key-{n}"), n)?).await?;
    }
    let step = scene.profile.step;
    // The longer ones first, so that some stand before the shorter ones wherever the bus puts its keys.
    let pause = |n| if n < 4 { step * 8 } else { step * 4 };
    let deliveries = leaving.take(8).await?;
    let start = Instant::now();
    for delivery in deliveries {
        let pause = pause(number(delivery.event())?);
        delivery.nack(Redelivery::After(pause)).await?;
    }
    leaving.deliveries.close().await?;

    let second = h.connect().await?;
    let mut reader = scene.join_on(&second, scene.subscription()).await?;
    for _ in 0..8 {
        let delivery = reader.one().await?;
        let (n, waited) = (number(delivery.event())?, start.elapsed());
        ensure_eq!(delivery.attempt(), 2, "attempt of event {n}");
        ensure!(
            waited >= pause(n) && waited <= pause(n) + step * 3,
            "event {n} came back after {waited:?}, asked for {:?}",
            pause(n)
        );
        delivery.ack().await?;
    }
    reader.nothing("an acked event came back").await
}

/// The longest ack deadline and the longest pause are kept or refused as `InvalidInput`; they neither end at once nor
/// disturb other events.
pub async fn the_longest_times_do_no_harm<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let longest = scene.subscription().with_ack_deadline(Duration::MAX);
    let subscription = match scene.bus.subscribe(longest.clone()).await {
        Ok(mut joined) => {
            joined.close().await?;
            longest
        }
        Err(error) => {
            ensure!(error.is_invalid_input(), "the longest ack deadline: {error}");
            scene.subscription()
        }
    };
    let mut reader = scene.join_as(subscription).await?;
    scene.bus.publish(scene.keyed("long", 1)?).await?;
    let (_, _, lease) = reader.expect(1, 1).await?.into_parts();
    lease.extend().await?;
    if scene.bus.capabilities().delayed_redelivery
        && let Err(error) = lease.nack(Redelivery::After(Duration::MAX)).await
    {
        ensure!(error.is_invalid_input(), "the longest pause: {error}");
        lease.ack().await?;
    }
    scene.bus.publish(scene.keyed("other", 2)?).await?;
    reader.expect(2, 1).await?.ack().await?;
    reader.nothing("the longest time is over").await
}
