//! Ping and close.

use std::time::Duration;

use cqi_core::{Code, Kind};
use tokio::time::{sleep, timeout};

use super::{RegistryHarness, kit::Scene};
use crate::conformance::{Failure, Outcome, ensure, refused};

/// `ping` is `Ok` while the registry works.
pub async fn a_working_registry_answers_a_ping<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    match timeout(scene.profile.limit, scene.registry.ping()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new("ping did not answer")),
    }
}

/// A second close is `Ok`; every other call is then `Permanent`/`Closed`. Closing a handle deregisters nobody.
pub async fn close_is_idempotent_and_final<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let instance = scene.register(1).await?;
    scene.registry.close().await?;
    scene.registry.close().await?;
    let (registry, kind, code) = (&scene.registry, Kind::Permanent, Some(Code::Closed));
    refused("register", registry.register(scene.info(2)).await, kind, code)?;
    refused("deregister", registry.deregister(instance.id).await, kind, code)?;
    refused("heartbeat", registry.heartbeat(instance.id).await, kind, code)?;
    refused("discover", registry.discover(&scene.name).await, kind, code)?;
    refused("watch", registry.watch(&scene.name).await, kind, code)?;
    refused("ping", registry.ping().await, kind, code)?;
    if h.closes_apart() {
        let seen = h.connect().await?.discover(&scene.name).await?;
        ensure!(seen.len() == 1, "closing a handle deregistered an instance");
    }
    Ok(())
}

/// A watch that waits ends with `None` when the registry is closed, and so does every later `next`.
pub async fn close_ends_a_waiting_watch<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut watch = scene.watch().await?;
    let close = async {
        sleep(Duration::from_millis(20)).await;
        scene.registry.close().await
    };
    let both = futures::future::join(watch.watch.next(), close);
    let Ok((next, closed)) = timeout(scene.profile.limit, both).await else {
        return Err(Failure::new("the watch did not end after close"));
    };
    closed?;
    ensure!(next.is_none(), "next after close gave {next:?}");
    let again = timeout(scene.profile.limit, watch.watch.next()).await;
    ensure!(matches!(again, Ok(None)), "a later next gave {again:?}");
    Ok(())
}
