//! Consumer groups.

use std::collections::HashSet;

use cqi_core::{Code, Kind, event::StartAt};

use super::{
    EventBusHarness,
    kit::{Reader, Scene, number},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq, refused};

/// BUS-26, ML-MSG-3: a topic has several subscribers.
///
/// Two groups each get all events.
pub async fn every_group_gets_every_event<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let other = h.group()?;
    let mut readers = [
        scene.join().await?,
        scene.join_as(scene.subscription_of(&other)).await?,
    ];
    scene.publish(0..50).await?;
    for reader in &mut readers {
        let seen = reader.read_all(0..50).await?;
        ensure_eq!(seen.len(), 50, "events of one group");
    }
    Ok(())
}

/// The members of a group share its events: all arrive, none twice, and every member that asks gets some.
pub async fn members_of_a_group_share<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut members = [scene.join().await?, scene.join().await?, scene.join().await?];
    let shares = share(&scene, &mut members).await?;
    ensure!(
        shares.iter().all(|share| *share > 0),
        "shares of the members: {shares:?}"
    );
    Ok(())
}

/// Publishes 300 events over 32 keys and lets the members read in turn. Fails unless each came exactly once.
pub(super) async fn share(scene: &Scene, members: &mut [Reader]) -> Result<Vec<usize>, Failure> {
    let count = 300;
    for n in 0..count {
        scene
            .bus
            .publish(scene.keyed(&format!("key-{}", n % 32), n)?)
            .await?;
    }
    let mut shares = vec![0; members.len()];
    let mut seen = HashSet::new();
    let mut idle = 0;
    while seen.len() < count && idle < 3 {
        let before = seen.len();
        for (member, share) in members.iter_mut().zip(&mut shares) {
            for delivery in member.some(5, scene.profile.quiet).await? {
                let n = number(delivery.event())?;
                ensure!(seen.insert(n), "event {n} came twice to one group");
                *share += 1;
                delivery.ack().await?;
            }
        }
        idle = if seen.len() == before { idle + 1 } else { 0 };
    }
    ensure_eq!(seen.len(), count, "events of the group");
    Ok(shares)
}

/// A group goes on while it has no members: what is published then awaits the next one.
pub async fn a_group_outlives_its_members<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    scene.publish([0]).await?;
    reader.expect(0, 1).await?.ack().await?;
    reader.deliveries.close().await?;
    drop(reader);
    scene.publish(1..20).await?;
    let mut reader = scene.join().await?;
    let seen = reader.read_all(1..20).await?;
    ensure!(!seen.contains_key(&0), "an acked event came back");
    Ok(())
}

/// A new group gets what is published after it exists, and nothing older.
pub async fn a_new_group_starts_with_new_events<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.publish(0..5).await?;
    let mut reader = scene.join().await?;
    scene.publish([5]).await?;
    reader.expect(5, 1).await?.ack().await?;
    reader.nothing("an event older than the group").await
}

/// With replay, a new group can start with the oldest event, again and again; without, that is `Unsupported` and makes no
/// group.
pub async fn a_new_group_starts_with_the_oldest_or_says_unsupported<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut published = 0;
    for round in 2..5 {
        scene.publish(published..published + round).await?;
        published += round;
        let group = h.group()?;
        let oldest = scene.subscription_of(&group).with_start_at(StartAt::Oldest);
        if scene.bus.capabilities().replay {
            let mut reader = scene.join_as(oldest).await?;
            reader.read_all(0..published).await?;
            reader.nothing("more than was published").await?;
        } else {
            let answer = scene.bus.subscribe(oldest).await;
            refused(
                "subscribe at the oldest",
                answer,
                Kind::Permanent,
                Some(Code::Unsupported),
            )?;
        }
    }
    Ok(())
}

/// `start_at` is for new groups: an existing one goes on where it was.
pub async fn start_at_does_not_rewind_a_group<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    if !scene.bus.capabilities().replay {
        return Err(Failure::not_applicable("the bus declares no replay"));
    }
    let oldest = scene.subscription().with_start_at(StartAt::Oldest);
    scene.publish(0..5).await?;
    let mut reader = scene.join_as(oldest.clone()).await?;
    reader.read_all(0..5).await?;
    reader.deliveries.close().await?;
    let mut reader = scene.join_as(oldest).await?;
    reader.nothing("a group was rewound").await?;
    scene.publish([5]).await?;
    reader.expect(5, 1).await?.ack().await?;
    Ok(())
}

/// A group that does not settle keeps no other group waiting.
pub async fn a_slow_group_does_not_stall_another<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let slow = h.group()?;
    let mut slow_reader = scene.join_as(scene.subscription_of(&slow)).await?;
    let mut reader = scene.join().await?;
    scene.publish(0..1).await?;
    let held = slow_reader.expect(0, 1).await?;
    let more = h.backlog().map_or(200, |backlog| (backlog / 2).min(200));
    scene.publish(1..more).await?;
    reader.read_all(0..more).await?;
    held.ack().await?;
    slow_reader.read_all(1..more).await?;
    Ok(())
}
