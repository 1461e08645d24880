//! `add`.

use std::{collections::HashSet, sync::Arc};

use cqi_core::{Kind, cache::SetOptions};
use tokio::time::sleep;

use super::{
    CacheHarness,
    conditions::race,
    kit::{FOR_EVER, Scene},
};
use crate::conformance::{Outcome, ensure_eq, refused};

/// An absent key counts as 0; the sum is returned and stored as decimal text; deltas may be negative and zero.
pub async fn add_counts_from_nothing<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for (delta, sum) in [
        (0, 0),
        (5, 5),
        (-7, -2),
        (0, -2),
        (i64::MAX, i64::MAX - 2),
        (i64::MIN, -3),
    ] {
        ensure_eq!(
            scene.cache.add(&scene.key, delta, None).await?,
            sum,
            "sum after {delta}"
        );
        scene.holds(Some(&sum.to_string()), "after add").await?;
    }
    Ok(())
}

/// `add` goes on from a number that was set as text, the smallest and largest too.
pub async fn add_reads_what_set_wrote<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for (text, delta) in [
        ("41", 1),
        ("-5", -5),
        ("9223372036854775807", -1),
        ("-9223372036854775808", 1),
    ] {
        scene.set(text, FOR_EVER).await?;
        let sum = text.parse::<i64>().unwrap_or_default() + delta;
        ensure_eq!(
            scene.cache.add(&scene.key, delta, None).await?,
            sum,
            "{text} + {delta}"
        );
    }
    Ok(())
}

/// 50 racers that add 20 times each give every sum from 1 to 1000 exactly once.
pub async fn concurrent_adds_lose_nothing<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let answers = race(50, |_| {
        let (cache, key) = (Arc::clone(&scene.cache), scene.key.clone());
        async move {
            let mut sums = Vec::new();
            for _ in 0..20 {
                sums.push(cache.add(&key, 1, None).await?);
            }
            Ok(sums)
        }
    })
    .await?;
    let distinct: HashSet<i64> = answers.into_iter().flatten().collect();
    ensure_eq!(distinct.len(), 1_000, "distinct sums");
    scene.holds(Some("1000"), "after all adds").await
}

/// Adding to a present key does not touch its time to live, whatever `add` is given.
pub async fn add_keeps_the_time_to_live_of_a_present_key<H: CacheHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    let base = scene.key.clone();
    scene.set("1", SetOptions::ttl(scene.ttl())).await?;
    scene.cache.add(&scene.key, 1, Some(scene.ttl() * 50)).await?;
    scene.cache.add(&scene.key, 1, None).await?;
    scene.holds(Some("3"), "before its time").await?;
    scene.key = format!("{base}:stays");
    scene.set("1", FOR_EVER).await?;
    scene.cache.add(&scene.key, 1, Some(scene.ttl())).await?;
    sleep(scene.after_ttl()).await;
    scene.holds(Some("2"), "of an entry without time to live").await?;
    scene.key = base;
    scene.holds(None, "after its time").await
}

/// An absent key lives for the time `add` was given, or for ever.
pub async fn add_gives_an_absent_key_its_time_to_live<H: CacheHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    let base = scene.key.clone();
    scene.cache.add(&scene.key, 1, Some(scene.ttl())).await?;
    scene.key = format!("{base}:stays");
    scene.cache.add(&scene.key, 1, None).await?;
    sleep(scene.after_ttl()).await;
    scene.holds(Some("1"), "of an entry without time to live").await?;
    scene.key = base;
    scene.holds(None, "after its time").await
}

/// After its time a count starts anew from 0, with the new time to live.
pub async fn add_does_not_resurrect_an_expired_count<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for _ in 0..2 {
        let sum = scene.cache.add(&scene.key, 7, Some(scene.ttl())).await?;
        ensure_eq!(sum, 7, "sum from nothing");
        sleep(scene.after_ttl()).await;
    }
    scene.holds(None, "after its time").await
}

/// A sum beyond 64 bits is `InvalidInput`; value and time to live stay.
pub async fn add_refuses_overflow_and_keeps_the_value<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for (start, delta) in [(i64::MAX, 1), (i64::MIN, -1), (i64::MAX, i64::MAX)] {
        scene
            .set(&start.to_string(), SetOptions::ttl(scene.ttl()))
            .await?;
        let answer = scene.cache.add(&scene.key, delta, None).await;
        refused("add", answer, Kind::InvalidInput, None)?;
        scene
            .holds(Some(&start.to_string()), "after a refused add")
            .await?;
    }
    sleep(scene.after_ttl()).await;
    scene.holds(None, "after its time").await
}

/// A value that is no decimal `i64` is `InvalidInput`; value and time to live stay, and the error does not show it.
pub async fn add_refuses_what_is_no_number_and_keeps_the_value<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for value in [
        "canary",
        "",
        "1.0",
        "0x10",
        " 1",
        "1 ",
        "1e3",
        "9223372036854775808",
        "1\n",
    ] {
        scene.set(value, SetOptions::ttl(scene.ttl())).await?;
        let answer = scene.cache.add(&scene.key, 1, None).await;
        refused(&format!("add to {value:?}"), answer, Kind::InvalidInput, None)?;
        scene.holds(Some(value), "after a refused add").await?;
    }
    sleep(scene.after_ttl()).await;
    scene.holds(None, "after its time").await
}
