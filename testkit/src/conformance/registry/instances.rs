//! Registering, discovering and deregistering.

use std::{collections::HashSet, sync::Arc};

use cqi_core::{Kind, registry::ServiceInfo};
use tokio::task::JoinSet;

use super::{RegistryHarness, kit::Scene};
use crate::{
    conformance::{Outcome, ensure, ensure_eq, refused},
    unique,
};

/// REG-2: everything an instance says about itself is there for another handle, with the id and time of its
/// registration.
pub async fn a_registered_instance_is_discovered_whole<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let info = scene
        .info(8080)
        .with_health_endpoint("/health/ready")
        .with_metadata("zone", "a")
        .with_metadata("region", "");
    let before = jiff::Timestamp::now();
    let instance = scene.registry.register(info.clone()).await?;
    ensure_eq!(instance.info, info, "what was registered");
    ensure!(!instance.id.is_nil(), "the id is nil");
    // The registry's clock may differ a little from ours.
    let apart = instance.registered_at.duration_since(before).unsigned_abs();
    ensure!(
        apart.as_secs() < 60,
        "registered at {}, it is {before}",
        instance.registered_at
    );
    ensure_eq!(
        h.connect().await?.discover(&scene.name).await?,
        [instance],
        "discovered by another handle"
    );
    Ok(())
}

/// REG-3, REG-7: instances are listed in the order they were registered, each with an id of its own.
pub async fn instances_come_in_order_of_registration<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut ids = Vec::new();
    for port in [9, 3, 7, 1, 5] {
        ids.push(scene.register(port).await?.id);
        scene.holds(&ids, "while registering").await?;
    }
    ensure_eq!(ids.iter().collect::<HashSet<_>>().len(), 5, "distinct ids");
    // A renewal is no new registration.
    scene.registry.heartbeat(ids[0]).await?;
    scene.holds(&ids, "after a heartbeat").await
}

/// A name lists its own instances only, also beside names that begin alike.
pub async fn names_do_not_mix<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let own = scene.register(1).await?;
    let longer = format!("{}-b", scene.name);
    let other = scene
        .registry
        .register(ServiceInfo::new(&longer, "1", "localhost", 2))
        .await?;
    scene.holds(&[own.id], "of the shorter name").await?;
    ensure_eq!(
        scene.registry.discover(&longer).await?,
        [other],
        "instances of the longer name"
    );
    Ok(())
}

/// OP-27: a name nobody registered is an empty list, not an error. One that nobody can register is `InvalidInput`.
pub async fn an_unknown_name_gives_an_empty_list<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    scene.holds(&[], "of an unknown name").await?;
    for bad in ["", "Bad Name", "a/../b", "a\r\n", &"a".repeat(64)] {
        let discovered = scene.registry.discover(bad).await;
        refused(&format!("discover {bad:?}"), discovered, Kind::InvalidInput, None)?;
        let watched = scene.registry.watch(bad).await;
        refused(&format!("watch {bad:?}"), watched, Kind::InvalidInput, None)?;
    }
    Ok(())
}

/// Registering the same information again makes another instance.
pub async fn the_same_information_may_be_registered_twice<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let (first, second) = (scene.register(1).await?, scene.register(1).await?);
    ensure!(first.id != second.id, "two registrations have one id");
    scene
        .holds(&[first.id, second.id], "after registering twice")
        .await
}

/// REG-8, OP-27: a deregistered instance is gone at once; deregistering it again is `NotFound`; others stay.
pub async fn a_deregistered_instance_is_gone<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let (first, second) = (scene.register(1).await?, scene.register(2).await?);
    scene.registry.deregister(first.id).await?;
    scene.holds(&[second.id], "after deregistering the first").await?;
    refused(
        "deregister again",
        scene.registry.deregister(first.id).await,
        Kind::NotFound,
        None,
    )?;
    refused(
        "heartbeat",
        scene.registry.heartbeat(first.id).await,
        Kind::NotFound,
        None,
    )?;
    // Another handle may do it as well.
    h.connect().await?.deregister(second.id).await?;
    scene.holds(&[], "after deregistering both").await
}

/// REG-9, K-09: what `ServiceInfo::validate` refuses is `InvalidInput` and is not registered.
pub async fn bad_information_is_refused_and_not_registered<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut many = scene.info(1);
    for n in 0..33 {
        many = many.with_metadata(format!("key{n}"), "v");
    }
    let name = scene.name.as_str();
    let bad = [
        ServiceInfo::new("", "1", "localhost", 1),
        ServiceInfo::new("Bad Name", "1", "localhost", 1),
        ServiceInfo::new("a/../b", "1", "localhost", 1),
        ServiceInfo::new(name, "1", "", 1),
        ServiceInfo::new(name, "1", "http://localhost", 1),
        ServiceInfo::new(name, "1", "localhost", 0),
        ServiceInfo::new(name, "1\r\n", "localhost", 1),
        scene.info(1).with_health_endpoint("ready"),
        scene.info(1).with_metadata("key", "v".repeat(256)),
        many,
    ];
    for info in bad {
        refused(
            &format!("register {info:?}"),
            scene.registry.register(info).await,
            Kind::InvalidInput,
            None,
        )?;
    }
    scene.holds(&[], "after refused registrations").await
}

/// K-07: metadata of non-ASCII text and of SQL or Lua, the longest fields, IPv6 addresses and the most entries come
/// back as they went in.
pub async fn unusual_information_is_kept<H: RegistryHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut info = ServiceInfo::new(&scene.name, "v".repeat(255), "[2001:db8::1]", u16::MAX)
        .with_health_endpoint(format!("/{}", "h".repeat(254)));
    for n in 0..30 {
        info = info.with_metadata(format!("key{n}"), "v".repeat(255));
    }
    let info = info
        .with_metadata("☺ \"'\\{}", "日本語; DROP TABLE x")
        .with_metadata("", "");
    let instance = scene.registry.register(info.clone()).await?;
    ensure_eq!(instance.info, info, "what was registered");
    ensure_eq!(
        scene.registry.discover(&scene.name).await?,
        [instance],
        "what is discovered"
    );
    Ok(())
}

/// 50 registrations at once, of one name, are 50 instances.
pub async fn concurrent_registrations_all_count<H: RegistryHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    scene.name = unique("crowd");
    let mut tasks = JoinSet::new();
    for port in 1..=50 {
        let (registry, info) = (Arc::clone(&scene.registry), scene.info(port));
        tasks.spawn(async move { registry.register(info).await });
    }
    let mut ids = HashSet::new();
    while let Some(done) = tasks.join_next().await {
        ids.insert(done??.id);
    }
    let seen: HashSet<_> = scene
        .registry
        .discover(&scene.name)
        .await?
        .iter()
        .map(|i| i.id)
        .collect();
    ensure_eq!(ids.len(), 50, "distinct ids");
    ensure!(seen == ids, "{} of 50 instances are discovered", seen.len());
    Ok(())
}
