//! Watches.

use std::collections::HashSet;

use cqi_core::registry::{Change, ServiceInfo};
use futures::FutureExt;
use tokio::time::sleep;

use super::{RegistryHarness, kit::Scene};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq};

/// A watch first gives an `Up` for every live instance, in order of registration.
pub async fn a_watch_starts_with_what_is_there<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut instances = Vec::new();
    for port in 1..=5 {
        instances.push(scene.register(port).await?);
    }
    scene.registry.deregister(instances.remove(2).id).await?;
    let mut watch = scene.watch().await?;
    for instance in &instances {
        watch.up(instance).await?;
    }
    watch.nothing("more than was there").await
}

/// After the snapshot, each change comes once, in the order it happened; a heartbeat is no change.
pub async fn a_watch_tells_each_change_once_in_order<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    watch.nothing("a change of nothing").await?;
    let first = scene.register(1).await?;
    watch.up(&first).await?;
    let second = scene.register(2).await?;
    scene.registry.heartbeat(first.id).await?;
    scene.registry.deregister(first.id).await?;
    let third = scene.register(3).await?;
    scene.registry.deregister(third.id).await?;
    watch.up(&second).await?;
    watch.down(first.id).await?;
    watch.up(&third).await?;
    watch.down(third.id).await?;
    watch.nothing("a change came twice").await
}

/// An instance that expires is a `Down`, once, though nobody asks for it.
pub async fn a_watch_tells_of_an_expiry<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    let instance = scene.register(1).await?;
    watch.up(&instance).await?;
    watch.down(instance.id).await?;
    scene.holds(&[], "after its time").await?;
    watch.nothing("an expiry came twice").await
}

/// A watch hears nothing of other names.
pub async fn a_watch_hears_of_its_own_name_only<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    let longer = format!("{}-b", scene.name);
    let other = scene
        .registry
        .register(ServiceInfo::new(longer, "1", "localhost", 2))
        .await?;
    scene.registry.deregister(other.id).await?;
    watch.nothing("a change of another name").await?;
    let own = scene.register(1).await?;
    watch.up(&own).await
}

/// Two watches of one name, one of them on another handle and begun later, each hear every change since they began.
pub async fn two_watches_hear_the_same<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut first = scene.watch().await?;
    let one = scene.register(1).await?;
    let other = Scene {
        registry: h.connect().await?,
        name: scene.name.clone(),
        ..Scene::new(h).await?
    };
    let mut second = other.watch().await?;
    let two = scene.register(2).await?;
    scene.registry.deregister(one.id).await?;
    for watch in [&mut first, &mut second] {
        watch.up(&one).await?;
        watch.up(&two).await?;
        watch.down(one.id).await?;
    }
    first.nothing("a change came twice").await
}

/// A watch that is a hundred changes behind still hears each one, once and in order.
pub async fn a_slow_watch_misses_nothing<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    for (n, change) in come_and_go(&scene, 66).await?.into_iter().enumerate() {
        ensure_eq!(watch.next().await?, change, "change {n}");
    }
    watch.nothing("a change came twice").await
}

/// A watch that is very far behind may hear of fewer changes, but whoever follows it ends with what is there, and no
/// change comes twice.
pub async fn a_watch_far_behind_ends_with_the_truth<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    come_and_go(&scene, 600).await?;
    let truth: HashSet<_> = scene
        .registry
        .discover(&scene.name)
        .await?
        .iter()
        .map(|i| i.id)
        .collect();
    let mut known = HashSet::new();
    while let Some(change) = watch.next_if_any().await? {
        match change {
            Change::Up(instance) => ensure!(known.insert(instance.id), "{} came up twice", instance.id),
            Change::Down(id) => ensure!(known.remove(&id), "{id} went down and was not up"),
            other => return Err(Failure::new(format!("unknown change {other:?}"))),
        }
    }
    ensure!(
        known == truth,
        "{} instances known, {} are there",
        known.len(),
        truth.len()
    );
    Ok(())
}

/// Registers `count` instances and deregisters every second one. Returns the changes.
async fn come_and_go(scene: &Scene, count: u16) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for port in 1..=count {
        let instance = scene.register(port).await?;
        changes.push(Change::Up(instance.clone()));
        if port % 2 == 0 {
            scene.registry.deregister(instance.id).await?;
            changes.push(Change::Down(instance.id));
        }
    }
    Ok(changes)
}

/// A `next` dropped while it waits loses no change.
pub async fn a_cancelled_next_loses_no_change<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    for port in 1..=50 {
        drop(watch.watch.next().now_or_never());
        let instance = scene.register(port).await?;
        // Dropped just as the change comes; if this one gives it, it must be the right one.
        match watch.watch.next().now_or_never() {
            Some(change) => {
                let change = change.transpose()?;
                ensure_eq!(change, Some(Change::Up(instance)), "change {port}");
            }
            None => watch.up(&instance).await?,
        }
    }
    watch.nothing("a change came twice").await
}

/// Ending a watch disturbs neither the registry nor other watches.
pub async fn a_dropped_watch_disturbs_nobody<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    drop(scene.watch().await?);
    let instance = scene.register(1).await?;
    watch.up(&instance).await?;
    sleep(scene.ttl / 4).await;
    ensure!(
        scene.registry.discover(&scene.name).await?.len() == 1,
        "the instance is gone"
    );
    Ok(())
}
