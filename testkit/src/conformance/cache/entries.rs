//! Setting, reading and deleting.

use bytes::Bytes;

use super::{
    CacheHarness,
    kit::{FOR_EVER, Scene},
};
use crate::{
    conformance::{Outcome, ensure, ensure_eq},
    unique,
};

/// CCH-7, ML-CACHE-6: a key that was never set reads as `None`, does not exist, and deletes as `false`.
pub async fn a_miss_is_none_and_no_error<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.holds(None, "of nothing").await?;
    ensure!(
        !scene.cache.delete(&scene.key).await?,
        "delete of nothing found something"
    );
    scene.holds(None, "after deleting nothing").await
}

/// CCH-1, ML-CACHE-1: what was set is read, the empty value too.
pub async fn what_was_set_is_read<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for value in ["value", ""] {
        ensure!(
            scene.set(value, FOR_EVER).await?,
            "an unconditional set was not done"
        );
        scene.holds(Some(value), "after set").await?;
    }
    Ok(())
}

/// A later set replaces the value.
pub async fn a_set_overwrites<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for value in ["one", "two", "a longer three", "4"] {
        scene.set(value, FOR_EVER).await?;
        scene.holds(Some(value), "after set").await?;
    }
    Ok(())
}

/// CCH-1, ML-CACHE-1: `delete` removes the entry and says whether there was one.
pub async fn a_delete_tells_whether_something_was_there<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    for _ in 0..2 {
        scene.set("value", FOR_EVER).await?;
        ensure!(
            scene.cache.delete(&scene.key).await?,
            "delete of an entry found nothing"
        );
        scene.holds(None, "after delete").await?;
        ensure!(
            !scene.cache.delete(&scene.key).await?,
            "a second delete found something"
        );
    }
    Ok(())
}

/// Many keys keep their own values; deleting one leaves the others.
pub async fn keys_do_not_mix<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let count = scene.profile.count(1_000, 100);
    let key = |n: usize| format!("{}:{n}", scene.key);
    for n in 0..count {
        scene.cache.set(&key(n), n.to_string().into(), FOR_EVER).await?;
    }
    for n in (0..count).step_by(3) {
        scene.cache.delete(&key(n)).await?;
    }
    for n in 0..count {
        let expected = (n % 3 != 0).then(|| Bytes::from(n.to_string()));
        ensure_eq!(scene.cache.get(&key(n)).await?, expected, "value of key {n}");
    }
    Ok(())
}

/// A second handle of the same process sees the same entries, also what changes after it has read them; whether one of another process does is `shared`, and a
/// harness of a shared cache connects anew.
pub async fn a_second_handle_sees_what_capabilities_say<H: CacheHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let second = h.connect().await?;
    scene.set("value", FOR_EVER).await?;
    ensure_eq!(
        second.get(&scene.key).await?,
        Some(Bytes::from("value")),
        "get on a second handle"
    );
    scene.set("later", FOR_EVER).await?;
    ensure_eq!(
        second.get(&scene.key).await?,
        Some(Bytes::from("later")),
        "get on a second handle, after the entry was written over"
    );
    second.delete(&scene.key).await?;
    scene.holds(None, "after a delete on a second handle").await?;
    ensure!(
        second.get(&unique("other")).await?.is_none(),
        "an unknown key has a value"
    );
    Ok(())
}
