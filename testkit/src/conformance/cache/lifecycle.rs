//! Ping, close and cancellation.

use cqi_core::{Code, Kind};
use futures::FutureExt;
use tokio::time::timeout;

use super::{
    CacheHarness,
    kit::{FOR_EVER, Scene},
};
use crate::conformance::{Failure, Outcome, ensure, refused};

/// `ping` is `Ok` while the cache works.
pub async fn a_working_cache_answers_a_ping<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    match timeout(scene.profile.limit, scene.cache.ping()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new("ping did not answer")),
    }
}

/// CCH-14: a second close is `Ok`; every other call is then `Permanent`/`Closed`.
pub async fn close_is_idempotent_and_final<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.set("value", FOR_EVER).await?;
    scene.cache.close().await?;
    scene.cache.close().await?;
    let (cache, key) = (&scene.cache, &scene.key);
    let (kind, code) = (Kind::Permanent, Some(Code::Closed));
    refused("get", cache.get(key).await, kind, code)?;
    refused("set", cache.set(key, "canary".into(), FOR_EVER).await, kind, code)?;
    refused("delete", cache.delete(key).await, kind, code)?;
    refused("exists", cache.exists(key).await, kind, code)?;
    refused("add", cache.add(key, 1, None).await, kind, code)?;
    refused("ping", cache.ping().await, kind, code)?;
    ensure!(
        cache.capabilities().max_value > 0,
        "capabilities are known after close"
    );
    Ok(())
}

/// Calls dropped midway leave the cache working and every value whole.
pub async fn a_cancelled_call_harms_no_other<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for n in 0..50 {
        let dropped = scene
            .cache
            .set(&scene.key, "dropped".into(), FOR_EVER)
            .now_or_never();
        drop(scene.cache.get(&scene.key).now_or_never());
        drop(scene.cache.add(&scene.key, 1, None).now_or_never());
        if let Some(answer) = dropped {
            answer?;
        }
        // A dropped set may still arrive; the key is then settled by a read of our own write on another key.
        let key = format!("{}:{n}", scene.key);
        scene.cache.set(&key, "kept".into(), FOR_EVER).await?;
        let seen = scene.cache.get(&key).await?;
        ensure!(
            seen.as_deref() == Some(b"kept".as_slice()),
            "after dropped calls: {seen:?}"
        );
    }
    Ok(())
}
