//! Acknowledging, refusing and handing back.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use cqi_core::event::{Delivery, Event, Redelivery, Subscription};
use tokio::time::Instant;

use super::{
    EventBusHarness,
    basics::same,
    kit::{Reader, Scene, noise, number},
};
use crate::conformance::{Failure, Outcome, cut, ensure, ensure_eq};

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

/// Each negative acknowledgement without a pause brings the event back at once, with the attempt one higher.
pub async fn a_nack_redelivers_and_counts_each_attempt<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish([7]).await?;
    let mut delivery = reader.expect(7, 1).await?;
    for attempt in 2..=6 {
        let start = Instant::now();
        delivery.nack(AT_ONCE).await?;
        delivery = reader.expect(7, attempt).await?;
        ensure_at_once(&scene, start)?;
    }
    delivery.ack().await?;
    reader.nothing("an acked event came back").await
}

/// What comes back at once may be as late as what comes back after a pause.
fn ensure_at_once(scene: &Scene, start: Instant) -> Outcome {
    let waited = start.elapsed();
    ensure!(
        waited <= scene.profile.step * 2,
        "came back after {waited:?}, not at once"
    );
    Ok(())
}

/// A redelivery is the same event in everything it carries, whether it was refused, handed back, or left lying.
pub async fn a_redelivered_event_is_unchanged<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    let sent = Event::builder(scene.topic.clone())
        .key("BTC")
        .time(jiff::Timestamp::constant(1_700_000_000, 123_456_789))
        .source("asset-registry")
        .content_type("application/protobuf")
        .header("X-Mixed-Case", "Value")
        .payload(noise(300))
        .build()?;
    scene.bus.publish(sent.clone()).await?;
    for round in 0..4 {
        let delivery = reader.one().await?;
        same(&sent, delivery.event())?;
        match round {
            0 => delivery.nack(AT_ONCE).await?,
            1 => delivery.nack(Redelivery::Release).await?,
            2 => drop(delivery),
            _ => delivery.ack().await?,
        }
    }
    reader.nothing("an acked event came back").await
}

/// What one group refuses comes back to that group alone; another one neither sees it again nor counts an attempt.
pub async fn a_nack_concerns_its_own_group_only<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let other = h.group()?;
    let mut refusing = scene.join().await?;
    let mut calm = scene.join_as(scene.subscription_of(&other)).await?;
    scene.publish([1]).await?;
    for attempt in 1..=3 {
        refusing.expect(1, attempt).await?.nack(AT_ONCE).await?;
    }
    calm.expect(1, 1).await?.ack().await?;
    calm.nothing("what another group refused").await?;
    refusing.expect(1, 4).await?.ack().await?;
    calm.nothing("what another group settled").await
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

/// A released event comes back at once, to whoever asks, and its attempt is not counted.
pub async fn a_released_event_returns_with_no_attempt_counted<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish([1]).await?;
    for _ in 0..3 {
        let delivery = reader.expect(1, 1).await?;
        let start = Instant::now();
        delivery.nack(Redelivery::Release).await?;
        reader.expect(1, 1).await?.nack(Redelivery::Release).await?;
        ensure_at_once(&scene, start)?;
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

/// A settlement dropped after any number of steps has happened, or the event comes back; it never keeps its event, or the
/// later ones of its key, for good.
pub async fn a_cancelled_settlement_keeps_nothing_back<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    let mut unknown = HashSet::new();
    for round in 0..scene.profile.count(12, 6) {
        let (n, steps) = (round * 2, round / 3);
        scene.bus.publish(scene.keyed("k", n)?).await?;
        let (_, _, lease) = expect_among(&mut reader, n, 1, &unknown).await?.into_parts();
        match round % 3 {
            0 => match cut(lease.ack(), steps).await {
                Some(acked) => acked?,
                None => drop(unknown.insert(n)),
            },
            1 => drop(cut(lease.nack(AT_ONCE), steps).await),
            _ => drop(cut(lease.extend(), steps).await),
        }
        drop(lease);
        if round % 3 != 0 {
            expect_among(&mut reader, n, 2, &unknown).await?.ack().await?;
        }
        scene.bus.publish(scene.keyed("k", n + 1)?).await?;
        expect_among(&mut reader, n + 1, 1, &unknown).await?.ack().await?;
    }
    while let Some(delivery) = reader.some(1, scene.profile.step * 2).await?.pop() {
        let n = number(delivery.event())?;
        ensure!(unknown.contains(&n), "event {n} was acked and came back");
        delivery.ack().await?;
    }
    Ok(())
}

/// As [`Reader::expect`], past redeliveries of those whose acknowledgement may not have happened.
async fn expect_among(
    reader: &mut Reader,
    wanted: usize,
    attempt: u32,
    unknown: &HashSet<usize>,
) -> Result<Delivery, Failure> {
    loop {
        let delivery = reader.one().await?;
        let n = number(delivery.event())?;
        if n == wanted {
            ensure_eq!(delivery.attempt(), attempt, "attempt of event {n}");
            return Ok(delivery);
        }
        ensure!(unknown.contains(&n), "event {n} came, expected {wanted}");
        delivery.ack().await?;
    }
}
