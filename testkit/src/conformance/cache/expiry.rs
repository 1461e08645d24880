//! Times to live.

use std::time::Duration;

use cqi_core::cache::{Condition, SetOptions};
use tokio::time::sleep;

use super::{
    CacheHarness,
    kit::{FOR_EVER, Scene},
};
use crate::conformance::{Outcome, ensure, ensure_eq};

/// CCH-9: an entry is there before its time to live is over and gone after it.
pub async fn an_entry_lives_as_long_as_it_was_told<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    // Caches with whole seconds may end a second one part early.
    let early = scene.cache.capabilities().ttl_resolution.min(scene.ttl() / 2);
    let ttl = scene.ttl() * 2;
    scene.set("value", SetOptions::ttl(ttl)).await?;
    sleep(ttl - early - scene.ttl() / 4).await;
    scene.holds(Some("value"), "before its time").await?;
    sleep(early + scene.ttl() / 4 + scene.cache.capabilities().ttl_resolution).await;
    scene.holds(None, "after its time").await
}

/// Once expired, an entry is absent for `get`, `exists`, `delete`, and both conditions.
pub async fn an_expired_entry_is_absent_for_every_method<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let options = SetOptions::ttl(scene.ttl());
    scene.set("value", options).await?;
    sleep(scene.after_ttl()).await;
    ensure!(
        !scene.cache.delete(&scene.key).await?,
        "delete found an expired entry"
    );
    scene.set("value", options).await?;
    sleep(scene.after_ttl()).await;
    ensure!(
        !scene.set_if("new", Condition::IfPresent).await?,
        "IfPresent found an expired entry"
    );
    scene.holds(None, "after its time").await?;
    scene.set("value", options).await?;
    sleep(scene.after_ttl()).await;
    ensure!(
        scene.set_if("new", Condition::IfAbsent).await?,
        "IfAbsent met an expired entry"
    );
    scene.holds(Some("new"), "set over an expired entry").await
}

/// An entry without a time to live outlasts others.
pub async fn an_entry_without_time_to_live_stays<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.set("value", FOR_EVER).await?;
    sleep(scene.after_ttl() * 2).await;
    scene.holds(Some("value"), "later").await
}

/// A set with another time to live, or with none, replaces the earlier one.
pub async fn a_set_replaces_the_time_to_live<H: CacheHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    let base = scene.key.clone();
    let short = SetOptions::ttl(scene.ttl());
    let variants = [
        ("none", FOR_EVER, true),
        ("longer", SetOptions::ttl(scene.ttl() * 20), true),
        ("shorter", short, false),
    ];
    for (name, then, _) in variants {
        scene.key = format!("{base}{name}");
        let first = if name == "shorter" { FOR_EVER } else { short };
        scene.set("first", first).await?;
        scene.set("then", then).await?;
    }
    sleep(scene.after_ttl()).await;
    for (name, _, stays) in variants {
        scene.key = format!("{base}{name}");
        scene.holds(stays.then_some("then"), name).await?;
    }
    Ok(())
}

/// A time to live below a second works as finely as `ttl_resolution` says.
pub async fn sub_second_times_follow_the_resolution<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let resolution = scene.cache.capabilities().ttl_resolution;
    ensure!(!resolution.is_zero(), "the resolution is zero");
    let ttl = Duration::from_millis(200);
    scene.set("value", SetOptions::ttl(ttl)).await?;
    scene.holds(Some("value"), "at once").await?;
    // A coarse cache rounds up; it never makes an entry live for ever.
    sleep(ttl + resolution + Duration::from_millis(1)).await;
    scene.holds(None, "after its time").await
}

/// A set whose condition holds gives the entry its time to live, as any other set does.
pub async fn a_conditional_set_gives_its_time_to_live<H: CacheHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    let base = scene.key.clone();
    let short = SetOptions::ttl(scene.ttl());
    let variants = [
        ("absent", None, short.when(Condition::IfAbsent), false),
        ("absent stays", None, FOR_EVER.when(Condition::IfAbsent), true),
        ("shorter", Some(FOR_EVER), short.when(Condition::IfPresent), false),
        ("none", Some(short), FOR_EVER.when(Condition::IfPresent), true),
    ];
    for (name, first, then, _) in variants {
        scene.key = format!("{base}{name}");
        if let Some(first) = first {
            scene.set("first", first).await?;
        }
        ensure!(scene.set("then", then).await?, "{name}: the set was not done");
        scene.holds(Some("then"), name).await?;
    }
    sleep(scene.after_ttl()).await;
    for (name, _, _, stays) in variants {
        scene.key = format!("{base}{name}");
        scene.holds(stays.then_some("then"), name).await?;
    }
    Ok(())
}

/// The smallest time to live is not for ever, and the largest neither ends at once nor is an error.
pub async fn the_smallest_and_the_largest_times_work<H: CacheHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    let base = scene.key.clone();
    let times = [(Duration::from_nanos(1), false), (Duration::MAX, true)];
    for (ttl, stays) in times {
        scene.key = format!("{base}set{stays}");
        ensure!(scene.set("1", SetOptions::ttl(ttl)).await?, "{ttl:?}: not set");
        scene.key = format!("{base}add{stays}");
        ensure_eq!(
            scene.cache.add(&scene.key, 1, Some(ttl)).await?,
            1,
            "sum with {ttl:?}"
        );
    }
    sleep(scene.after_ttl()).await;
    for (ttl, stays) in times {
        for how in ["set", "add"] {
            scene.key = format!("{base}{how}{stays}");
            scene
                .holds(stays.then_some("1"), &format!("{how} with {ttl:?}"))
                .await?;
        }
    }
    Ok(())
}

/// A set whose condition fails changes neither value nor time to live.
pub async fn a_failed_condition_leaves_the_time_to_live<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.set("value", SetOptions::ttl(scene.ttl())).await?;
    ensure!(
        !scene.set_if("other", Condition::IfAbsent).await?,
        "IfAbsent met an entry"
    );
    scene.holds(Some("value"), "after a failed condition").await?;
    sleep(scene.after_ttl()).await;
    scene.holds(None, "after its time").await
}
