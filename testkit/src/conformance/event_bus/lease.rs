//! The ack deadline: a delivery belongs to one member until it passes.

use std::time::Duration;

use cqi_core::{Code, Kind, event::Redelivery};
use futures::{FutureExt, future::select_all};
use tokio::time::{Instant, sleep};

use super::{
    EventBusHarness,
    kit::{Scene, number},
};
use crate::conformance::{Failure, Outcome, ensure, refused};

/// BUS-19, BUS-27: delivery is at least once.
///
/// What a member leaves unsettled is given to another one after the ack deadline, not before, with the attempt counted.
pub async fn an_unsettled_event_returns_after_its_deadline<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let deadline = scene.profile.step;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    let mut other = scene.join_as(scene.short_subscription()).await?;
    scene.publish([1]).await?;
    let start = Instant::now();
    let held = tokio::select! {
        held = reader.one() => held?,
        held = other.one() => held?,
    };
    for attempt in 2..4 {
        let back = tokio::select! {
            back = reader.one() => back?,
            back = other.one() => back?,
        };
        let waited = start.elapsed();
        ensure!(
            back.attempt() == attempt,
            "attempt {}, expected {attempt}",
            back.attempt()
        );
        // Brokers measure the deadline from when they sent it, which is a little before we saw it.
        let floor = deadline * (attempt - 1) * 9 / 10;
        let ceiling = deadline * (attempt - 1) + scene.profile.limit / 2;
        ensure!(
            waited >= floor,
            "came back after {waited:?}, the deadline is {deadline:?}"
        );
        ensure!(
            waited <= ceiling,
            "came back after {waited:?}, the deadline is {deadline:?}"
        );
        if attempt == 3 {
            back.ack().await?;
        }
    }
    drop(held);
    reader
        .nothing_within(deadline * 2, "an acked event came back")
        .await
}

/// Dropping a delivery settles nothing: it comes back.
pub async fn a_dropped_delivery_returns<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    scene.publish(0..10).await?;
    drop(reader.take(10).await?);
    for _ in 0..10 {
        let delivery = reader.one().await?;
        ensure!(
            delivery.attempt() == 2,
            "attempt {}, expected 2",
            delivery.attempt()
        );
        delivery.ack().await?;
    }
    reader
        .nothing_within(scene.profile.step * 2, "an acked event came back")
        .await
}

/// A handler that takes several ack deadlines keeps its delivery by extending it, and can settle it at the end.
pub async fn extending_keeps_a_slow_delivery<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    let mut other = scene.join_as(scene.short_subscription()).await?;
    scene.publish([1]).await?;
    let held = tokio::select! {
        held = reader.one() => held?,
        held = other.one() => held?,
    };
    for _ in 0..10 {
        let pause = scene.profile.step / 3;
        tokio::select! {
            () = sleep(pause) => {}
            stolen = reader.one() => return Err(stolen_although_extended(stolen)),
            stolen = other.one() => return Err(stolen_although_extended(stolen)),
        }
        held.extend().await?;
    }
    held.ack().await?;
    reader
        .nothing_within(scene.profile.step * 2, "an acked event came back")
        .await
}

/// Each delivery of a batch is extended for itself: those that are keep, whichever place they have in it, the one that is
/// not comes back.
pub async fn extending_keeps_each_delivery_of_a_batch<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    scene.publish(0..4).await?;
    let mut held = reader.take(4).await?;
    drop(held.remove(1));
    let mut left_back = false;
    for _ in 0..10 {
        let back = reader.some(1, scene.profile.step / 3).await?;
        for back in back {
            let n = number(back.event())?;
            let kept = held
                .iter()
                .any(|held| number(held.event()).is_ok_and(|held| held == n));
            ensure!(
                !kept && !left_back,
                "event {n} was given away although extended, or settled"
            );
            back.ack().await?;
            left_back = true;
        }
        for held in &held {
            held.extend().await?;
        }
    }
    for held in held {
        held.ack().await?;
    }
    if !left_back {
        reader.one().await?.ack().await?;
    }
    reader
        .nothing_within(scene.profile.step * 2, "an acked event came back")
        .await
}

/// An extension lasts for one ack deadline: who extends and vanishes then keeps nobody waiting for longer.
pub async fn an_extended_delivery_returns_after_its_new_deadline<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let deadline = scene.profile.step;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    scene.publish([1]).await?;
    let held = reader.expect(1, 1).await?;
    sleep(deadline / 4).await;
    let start = Instant::now();
    held.extend().await?;
    drop(held);
    let back = reader.expect(1, 2).await?;
    let waited = start.elapsed();
    // Brokers measure it from when they heard of it, a little after we sent it.
    let (floor, ceiling) = (deadline * 9 / 10, deadline + scene.profile.limit / 2);
    ensure!(
        waited >= floor && waited <= ceiling,
        "came back {waited:?} after it was extended, the deadline is {deadline:?}"
    );
    back.ack().await?;
    Ok(())
}

fn stolen_although_extended(result: Result<cqi_core::event::Delivery, Failure>) -> Failure {
    match result {
        Ok(delivery) => Failure::new(format!("given to another member although extended: {delivery:?}")),
        Err(failure) => failure,
    }
}

/// After the deadline the delivery is somebody else's: a late ack, nack or extend is refused or has no effect, and the
/// new owner can work on.
pub async fn a_late_ack_settles_nothing_of_others<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    for (n, late) in ["ack", "nack", "extend"].into_iter().enumerate() {
        scene.publish([n]).await?;
        let old = reader.expect(n, 1).await?;
        let new = reader.expect(n, 2).await?;
        let (_, _, old) = old.into_parts();
        let answer = match late {
            "ack" => old.ack().await,
            "nack" => old.nack(Redelivery::After(Duration::ZERO)).await,
            _ => old.extend().await,
        };
        if let Err(error) = answer {
            let seen = (error.kind(), error.code());
            ensure!(
                seen.1 == Some(Code::FailedPrecondition) || seen.0 == Kind::Temporary,
                "a late {late}: {seen:?} ({error})"
            );
        }
        // A late ack must not hide that the new owner failed: its nack still brings the event back.
        new.nack(Redelivery::After(Duration::ZERO)).await?;
        reader.expect(n, 3).await?.ack().await?;
    }
    reader
        .nothing_within(scene.profile.step * 2, "an acked event came back")
        .await
}

/// Deliveries in flight can be settled after their subscription was closed or dropped.
pub async fn a_delivery_can_be_settled_after_leaving<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for n in 0..2 {
        let mut reader = scene.join_as(scene.short_subscription()).await?;
        scene.publish([n]).await?;
        let held = reader.expect(n, 1).await?;
        if n == 0 {
            reader.deliveries.close().await?;
        }
        drop(reader);
        held.ack().await?;
    }
    let mut reader = scene.join_as(scene.short_subscription()).await?;
    reader
        .nothing_within(scene.profile.step * 2, "an acked event came back")
        .await
}

/// Whichever member is left gets, in the `next` it waits in all along, what the others took with them: no member relies
/// on another one to keep watch.
pub async fn the_last_member_gets_what_vanished_members_held<H: EventBusHarness>(h: &H) -> Outcome {
    const MEMBERS: usize = 4;
    for survivor in 0..MEMBERS {
        let scene = Scene::new(h).await?;
        let mut waiting = Vec::new();
        for _ in 0..MEMBERS {
            let mut reader = scene.join_as(scene.short_subscription()).await?;
            // The delivery goes with its reader, as in a process that dies.
            waiting.push(Box::pin(async move { (reader.one().await, reader) }));
        }
        // All wait before anything is published.
        for next in &mut waiting {
            ensure!(
                next.as_mut().now_or_never().is_none(),
                "a delivery before anything was published"
            );
        }
        scene.publish([1]).await?;
        let ((first, vanished), index, mut waiting) = select_all(waiting).await;
        drop((first?, vanished));
        // Everybody else is polled once more, as on a real scheduler, before all but one vanish.
        for next in &mut waiting {
            ensure!(
                next.as_mut().now_or_never().is_none(),
                "one event came to two members"
            );
        }
        if index == survivor {
            continue;
        }
        let left = waiting.swap_remove(survivor.min(waiting.len() - 1));
        drop(waiting);
        let (back, _reader) = left.await;
        let back = back?;
        ensure!(back.attempt() == 2, "attempt {}, expected 2", back.attempt());
        back.ack().await?;
    }
    Ok(())
}

/// As before, but the others stay members: they only stop asking, one of them with the event in hand.
pub async fn a_waiting_member_gets_what_others_do_not_settle<H: EventBusHarness>(h: &H) -> Outcome {
    const MEMBERS: usize = 4;
    for survivor in 0..MEMBERS {
        let scene = Scene::new(h).await?;
        let mut readers = Vec::new();
        for _ in 0..MEMBERS {
            readers.push(scene.join_as(scene.short_subscription()).await?);
        }
        let mut waiting: Vec<_> = readers.iter_mut().map(|reader| Box::pin(reader.one())).collect();
        for next in &mut waiting {
            ensure!(
                next.as_mut().now_or_never().is_none(),
                "a delivery before anything was published"
            );
        }
        scene.publish([1]).await?;
        let (held, index, mut waiting) = select_all(waiting).await;
        let held = held?;
        for next in &mut waiting {
            ensure!(
                next.as_mut().now_or_never().is_none(),
                "one event came to two members"
            );
        }
        if index == survivor {
            continue;
        }
        let left = waiting.swap_remove(survivor.min(waiting.len() - 1));
        drop(waiting);
        let back = left.await?;
        ensure!(back.attempt() == 2, "attempt {}, expected 2", back.attempt());
        back.ack().await?;
        drop(held);
    }
    Ok(())
}

/// An ack deadline of zero is `InvalidInput`.
pub async fn a_zero_ack_deadline_is_refused<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let zero = scene.subscription().with_ack_deadline(Duration::ZERO);
    refused(
        "subscribe",
        scene.bus.subscribe(zero).await,
        Kind::InvalidInput,
        None,
    )
}
