//! Heartbeats and expiry.

use cqi_core::Kind;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{RegistryHarness, kit::Scene};
use crate::{
    conformance::{Outcome, ensure, refused},
    eventually,
};

/// REG-5: an instance without heartbeats is there for most of its time to live and gone after it.
pub async fn an_instance_that_is_not_renewed_is_gone<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let start = Instant::now();
    let instance = scene.register(1).await?;
    sleep(scene.ttl / 2).await;
    scene.holds(&[instance.id], "in the middle of its time").await?;
    eventually(
        "the instance is gone",
        scene.ttl + scene.profile.limit,
        async || scene.holds(&[], "after its time").await,
    )
    .await?;
    let lived = start.elapsed();
    ensure!(
        lived >= scene.ttl * 9 / 10,
        "gone after {lived:?}, its time to live is {:?}",
        scene.ttl
    );
    ensure!(
        lived <= scene.ttl * 2,
        "gone only after {lived:?}, its time to live is {:?}",
        scene.ttl
    );
    Ok(())
}

/// An instance that is renewed, by whatever handle, lives several times its time to live, and ends when renewing ends.
pub async fn a_heartbeat_keeps_an_instance<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let other = h.connect().await?;
    let instance = scene.register(1).await?;
    for round in 0..9 {
        sleep(scene.ttl / 3).await;
        let registry = if round < 5 { &scene.registry } else { &other };
        registry.heartbeat(instance.id).await?;
        scene.holds(&[instance.id], "while it is renewed").await?;
    }
    sleep(scene.ttl / 2).await;
    scene
        .holds(&[instance.id], "within the last renewal's time")
        .await?;
    eventually("the instance is gone", scene.ttl * 2, async || {
        scene.holds(&[], "after its time").await
    })
    .await
}

/// Renewing or deregistering an expired instance is `NotFound` and does not bring it back.
pub async fn an_expired_instance_is_not_found<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let instance = scene.register(1).await?;
    sleep(scene.ttl).await;
    eventually("the instance is gone", scene.ttl, async || {
        scene.holds(&[], "after its time").await
    })
    .await?;
    refused(
        "heartbeat",
        scene.registry.heartbeat(instance.id).await,
        Kind::NotFound,
        None,
    )?;
    scene.holds(&[], "after a late heartbeat").await?;
    refused(
        "deregister",
        scene.registry.deregister(instance.id).await,
        Kind::NotFound,
        None,
    )?;
    let again = scene.register(1).await?;
    scene.holds(&[again.id], "after registering again").await
}

/// An id that never was is `NotFound`.
pub async fn an_unknown_id_is_not_found<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for id in [Uuid::new_v4(), Uuid::nil()] {
        refused(
            "heartbeat",
            scene.registry.heartbeat(id).await,
            Kind::NotFound,
            None,
        )?;
        refused(
            "deregister",
            scene.registry.deregister(id).await,
            Kind::NotFound,
            None,
        )?;
    }
    Ok(())
}

/// Renewing one instance keeps no other one alive.
pub async fn each_instance_has_its_own_lease<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let (kept, lost) = (scene.register(1).await?, scene.register(2).await?);
    for _ in 0..6 {
        sleep(scene.ttl / 3).await;
        scene.registry.heartbeat(kept.id).await?;
    }
    scene.holds(&[kept.id], "after one was renewed").await?;
    refused(
        "heartbeat of the other",
        scene.registry.heartbeat(lost.id).await,
        Kind::NotFound,
        None,
    )
}
