//! Random operations against a model.
//!
//! The model is a map that never evicts, so it may assert everything but early eviction; a harness gives the cache room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use cqi_core::cache::{Condition, SetOptions};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use super::{
    CacheHarness,
    conditions::race,
    kit::{FOR_EVER, Scene},
};
use crate::conformance::{Clock, Failure, Outcome, ensure, ensure_eq};

/// What an entry should be.
#[derive(Debug, Clone)]
struct Entry {
    value: Bytes,
    dies: Option<Instant>,
}

#[derive(Debug, Default)]
struct Model(HashMap<String, Entry>);

impl Model {
    fn live(&mut self, key: &str) -> Option<&mut Entry> {
        if self
            .0
            .get(key)
            .is_some_and(|entry| entry.dies.is_some_and(|at| at <= Instant::now()))
        {
            self.0.remove(key);
        }
        self.0.get_mut(key)
    }

    fn set(&mut self, key: &str, value: Bytes, options: SetOptions) -> bool {
        let present = self.live(key).is_some();
        let holds = match options.condition {
            Condition::Always => true,
            Condition::IfAbsent => !present,
            Condition::IfPresent => present,
        };
        if holds {
            let dies = options.ttl.map(|ttl| Instant::now() + ttl);
            self.0.insert(key.to_owned(), Entry { value, dies });
        }
        holds
    }

    /// `None` where the port must refuse.
    fn add(&mut self, key: &str, delta: i64, ttl: Option<Duration>) -> Option<i64> {
        match self.live(key) {
            Some(entry) => {
                let old: i64 = std::str::from_utf8(&entry.value).ok()?.parse().ok()?;
                let sum = old.checked_add(delta)?;
                entry.value = sum.to_string().into();
                Some(sum)
            }
            None => {
                self.set(
                    key,
                    delta.to_string().into(),
                    SetOptions {
                        ttl,
                        condition: Condition::Always,
                    },
                );
                Some(delta)
            }
        }
    }
}

/// A few thousand random operations on a few keys, with times to live and pauses, answer as the model does. The seed is
/// in the failure.
pub async fn random_operations_agree_with_a_model<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let seed: u64 = rand::random();
    play(&scene, seed)
        .await
        .map_err(|failure| Failure::new(format!("with seed {seed}: {failure}")))
}

async fn play(scene: &Scene, seed: u64) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let paused = scene.profile.clock == Clock::Paused;
    // Under a real clock the model cannot know to the millisecond when an entry ends, so nothing expires in it.
    let unit = if paused {
        scene.cache.capabilities().ttl_resolution
    } else {
        Duration::from_secs(3_600)
    };
    for step in 0..scene.profile.count(5_000, 500) {
        let key = format!("{}:{}", scene.key, random.random_range(0..6));
        let number: i64 = match random.random_range(0..10) {
            0 => i64::MAX,
            1 => i64::MIN,
            _ => random.random_range(-100..100),
        };
        let value = match random.random_range(0..4) {
            0 => Bytes::from("text"),
            _ => Bytes::from(number.to_string()),
        };
        let ttl = random.random_bool(0.5).then(|| unit * random.random_range(1..20));
        let condition = match random.random_range(0..3) {
            0 => Condition::Always,
            1 => Condition::IfAbsent,
            _ => Condition::IfPresent,
        };
        match random.random_range(0..7) {
            0 | 1 => {
                let options = SetOptions { ttl, condition };
                let answer = scene.cache.set(&key, value.clone(), options).await?;
                ensure_eq!(
                    answer,
                    model.set(&key, value, options),
                    "step {step}, set {key} {options:?}"
                );
            }
            2 => {
                let answer = scene.cache.get(&key).await?;
                ensure_eq!(
                    answer,
                    model.live(&key).map(|e| e.value.clone()),
                    "step {step}, get {key}"
                );
            }
            3 => {
                let answer = scene.cache.delete(&key).await?;
                let expected = model.live(&key).is_some();
                model.0.remove(&key);
                ensure_eq!(answer, expected, "step {step}, delete {key}");
            }
            4 => {
                let answer = scene.cache.exists(&key).await?;
                ensure_eq!(answer, model.live(&key).is_some(), "step {step}, exists {key}");
            }
            5 => {
                let answer = scene.cache.add(&key, number, ttl).await;
                let refused = answer.as_ref().is_err_and(|error| error.is_invalid_input());
                ensure!(
                    answer.is_ok() || refused,
                    "step {step}, add {key} {number}: {answer:?}"
                );
                ensure_eq!(
                    answer.ok(),
                    model.add(&key, number, ttl),
                    "step {step}, add {key} {number}"
                );
            }
            _ if paused => sleep(unit * random.random_range(0..5)).await,
            _ => {}
        }
    }
    Ok(())
}

/// After many concurrent writes a key holds one whole value that somebody wrote, and every handle reads the same.
pub async fn concurrent_writers_leave_a_value_somebody_wrote<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let value = |n: usize| Bytes::from(n.to_string().repeat(50));
    race(50, |n| {
        let (cache, key, value) = (Arc::clone(&scene.cache), scene.key.clone(), value(n));
        async move {
            for _ in 0..20 {
                cache.set(&key, value.clone(), FOR_EVER).await?;
            }
            Ok(())
        }
    })
    .await?;
    let seen = scene.cache.get(&scene.key).await?;
    ensure!((0..50).any(|n| seen == Some(value(n))), "nobody wrote {seen:?}");
    ensure_eq!(
        h.connect().await?.get(&scene.key).await?,
        seen,
        "get on a second handle"
    );
    Ok(())
}
