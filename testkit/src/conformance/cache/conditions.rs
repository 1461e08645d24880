//! Conditional sets, also under racers.

use std::sync::Arc;

use bytes::Bytes;
use cqi_core::cache::Condition;
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    CacheHarness,
    kit::{FOR_EVER, Scene},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq};

/// `IfAbsent` sets only where nothing is, `IfPresent` only where something is; the answer tells which.
pub async fn if_absent_and_if_present_follow_the_entry<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    ensure!(
        !scene.set_if("a", Condition::IfPresent).await?,
        "IfPresent set where nothing was"
    );
    scene.holds(None, "after a failed IfPresent").await?;
    ensure!(
        scene.set_if("b", Condition::IfAbsent).await?,
        "IfAbsent did not set where nothing was"
    );
    scene.holds(Some("b"), "after IfAbsent").await?;
    ensure!(
        !scene.set_if("c", Condition::IfAbsent).await?,
        "IfAbsent set over an entry"
    );
    scene.holds(Some("b"), "after a failed IfAbsent").await?;
    ensure!(
        scene.set_if("d", Condition::IfPresent).await?,
        "IfPresent did not set over an entry"
    );
    scene.holds(Some("d"), "after IfPresent").await?;
    scene.cache.delete(&scene.key).await?;
    ensure!(
        !scene.set_if("e", Condition::IfPresent).await?,
        "IfPresent set where something was deleted"
    );
    Ok(())
}

/// Runs `racers` tasks that start together, each on its number, and returns their answers.
pub(super) async fn race<T, F, Fut>(racers: usize, one: F) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    F: Fn(usize) -> Fut,
    Fut: Future<Output = cqi_core::Result<T>> + Send + 'static,
{
    let start = Arc::new(Barrier::new(racers));
    let mut tasks = JoinSet::new();
    for n in 0..racers {
        let (start, racer) = (Arc::clone(&start), one(n));
        tasks.spawn(async move {
            start.wait().await;
            racer.await.map(|answer| (n, answer))
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = tasks.join_next().await {
        answers.push(done??);
    }
    answers.sort_by_key(|(n, _)| *n);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Of 50 racers that set the same key if it is absent, exactly one wins, and its value stays. Several rounds.
pub async fn one_of_fifty_racers_wins_if_absent<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for round in 0..scene.profile.count(20, 5) {
        let key = format!("{}:{round}", scene.key);
        let answers = race(50, |n| {
            let (cache, key) = (Arc::clone(&scene.cache), key.clone());
            async move {
                cache
                    .set(
                        &key,
                        Bytes::from(n.to_string()),
                        FOR_EVER.when(Condition::IfAbsent),
                    )
                    .await
            }
        })
        .await?;
        let winners: Vec<usize> = (0..50).filter(|n| answers[*n]).collect();
        ensure_eq!(winners.len(), 1, "winners of round {round}: {winners:?}");
        let value = scene.cache.get(&key).await?;
        ensure_eq!(
            value,
            Some(Bytes::from(winners[0].to_string())),
            "the winner's value"
        );
    }
    Ok(())
}

/// Racers that set only if present never create an entry, while others delete it.
pub async fn if_present_racers_never_create<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for round in 0..scene.profile.count(20, 5) {
        let key = format!("{}:{round}", scene.key);
        scene.cache.set(&key, "start".into(), FOR_EVER).await?;
        race(50, |n| {
            let (cache, key) = (Arc::clone(&scene.cache), key.clone());
            async move {
                if n % 10 == 0 {
                    cache.delete(&key).await
                } else {
                    cache
                        .set(&key, "racer".into(), FOR_EVER.when(Condition::IfPresent))
                        .await
                }
            }
        })
        .await?;
        ensure_eq!(
            scene.cache.get(&key).await?,
            None,
            "after deletes and IfPresent sets"
        );
    }
    Ok(())
}

/// Of 50 deletes of one entry, exactly one finds it.
pub async fn one_of_fifty_deletes_finds_the_entry<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for round in 0..scene.profile.count(20, 5) {
        scene.set("value", FOR_EVER).await?;
        let answers = race(50, |_| {
            let (cache, key) = (Arc::clone(&scene.cache), scene.key.clone());
            async move { cache.delete(&key).await }
        })
        .await?;
        let found = answers.into_iter().filter(|found| *found).count();
        ensure_eq!(found, 1, "deletes of round {round} that found the entry");
    }
    Ok(())
}
