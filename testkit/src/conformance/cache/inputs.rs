//! Unusual, large and bad input.

use std::time::Duration;

use bytes::Bytes;
use cqi_core::{
    Code, Kind,
    cache::{Condition, SetOptions},
};

use super::{
    CacheHarness,
    kit::{FOR_EVER, Scene},
};
use crate::conformance::{Failure, Outcome, ensure, ensure_eq, refused};

/// A value of every byte, and one that is no UTF-8, come back unchanged.
pub async fn every_byte_survives_in_a_value<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let all: Vec<u8> = (0..=255).collect();
    for value in [all, vec![0], vec![0xff, 0xfe, b'\r', b'\n', 0]] {
        let value = Bytes::from(value);
        scene.cache.set(&scene.key, value.clone(), FOR_EVER).await?;
        ensure_eq!(scene.cache.get(&scene.key).await?, Some(value), "value");
    }
    Ok(())
}

/// A value of 1 MiB, or of the largest size if that is less, is kept; so is one of the largest size up to 64 MiB.
pub async fn values_up_to_the_largest_are_kept<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let max = scene.cache.capabilities().max_value;
    for size in [max.min(1 << 20), max.min(64 << 20)] {
        let value = Bytes::from(vec![7; size]);
        scene.cache.set(&scene.key, value.clone(), FOR_EVER).await?;
        let seen = scene.cache.get(&scene.key).await?;
        ensure!(
            seen == Some(value),
            "a value of {size} bytes came back as {:?} bytes",
            seen.map(|v| v.len())
        );
    }
    Ok(())
}

/// A value over the largest size is `InvalidInput`/`TooLarge` and leaves what was there.
pub async fn a_larger_value_is_refused_and_changes_nothing<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let max = scene.cache.capabilities().max_value;
    if max > 1 << 30 {
        return Err(Failure::not_applicable(
            "the largest value is more than a test should hold in memory",
        ));
    }
    scene.set("before", FOR_EVER).await?;
    let large = Bytes::from(vec![7; max + 1]);
    let answer = scene.cache.set(&scene.key, large, FOR_EVER).await;
    refused("set", answer, Kind::InvalidInput, Some(Code::TooLarge))?;
    scene.holds(Some("before"), "after a refused set").await
}

/// K-01: keys with patterns, blanks, separators and non-ASCII text, and of 1024 bytes, are just keys.
pub async fn unusual_keys_work<H: CacheHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    let base = scene.key.clone();
    let tails = [
        " ",
        "a b",
        "*",
        "?",
        "[a-z]",
        "{tag}",
        "a:b:c",
        "%25",
        "\\",
        "'\"",
        "☺ ñ 日本語 🦀",
        "$(x);DROP TABLE",
    ];
    for tail in tails {
        scene.key = format!("{base}{tail}");
        scene.set(tail, FOR_EVER).await?;
    }
    for tail in tails {
        scene.key = format!("{base}{tail}");
        scene.holds(Some(tail), "of an unusual key").await?;
    }
    // A pattern deletes itself and no other.
    ensure!(
        scene.cache.delete(&format!("{base}*")).await?,
        "delete of the key `*`"
    );
    scene.key = format!("{base}a b");
    scene.holds(Some("a b"), "after deleting the key `*`").await?;
    scene.key = format!("{base:k<1024}");
    scene.set("long", FOR_EVER).await?;
    scene.holds(Some("long"), "of a key of 1024 bytes").await
}

/// K-01, ML-CACHE-6: every method that takes a key refuses an empty one, one over 1024 bytes and one with control
/// characters.
pub async fn bad_keys_are_refused_by_every_method<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let kind = Kind::InvalidInput;
    for key in ["", "a\r\nSET b c", "a\0", "\u{7f}", &"k".repeat(1025)] {
        refused("get", scene.cache.get(key).await, kind, None)?;
        refused(
            "set",
            scene.cache.set(key, "canary".into(), FOR_EVER).await,
            kind,
            None,
        )?;
        refused("delete", scene.cache.delete(key).await, kind, None)?;
        refused("exists", scene.cache.exists(key).await, kind, None)?;
        refused("add", scene.cache.add(key, 1, None).await, kind, None)?;
    }
    Ok(())
}

/// OP-34: a time to live of zero is `InvalidInput`, for `set` under every condition and for `add`, and leaves what was
/// there.
pub async fn a_zero_time_to_live_is_refused<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let zero = SetOptions::ttl(Duration::ZERO);
    scene.set("1", FOR_EVER).await?;
    for condition in [Condition::Always, Condition::IfAbsent, Condition::IfPresent] {
        let answer = scene
            .cache
            .set(&scene.key, "canary".into(), zero.when(condition))
            .await;
        refused("set", answer, Kind::InvalidInput, None)?;
    }
    let answer = scene.cache.add(&scene.key, 1, Some(Duration::ZERO)).await;
    refused("add", answer, Kind::InvalidInput, None)?;
    scene.holds(Some("1"), "after refused calls").await
}
