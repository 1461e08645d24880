//! What `publish` promises.

use cqi_core::{
    Code, Kind,
    event::{Event, EventId},
};
use futures::FutureExt;
use tokio::time::timeout;

use super::{
    EventBusHarness,
    kit::{Scene, noise},
};
use crate::{
    conformance::{Failure, Outcome, cut, ensure, ensure_eq, refused},
    unique,
};

/// B-09: the limit is known before anything is sent.
///
/// An event of one byte more than the largest payload is `InvalidInput`/`TooLarge`, alone and in a batch, and is not
/// stored.
pub async fn an_oversized_event_is_refused_and_not_stored<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    let large = || {
        let payload = noise(scene.bus.capabilities().max_payload + 1);
        Event::builder(scene.topic.clone())
            .header("secret", "canary")
            .payload(payload)
            .build()
    };
    let too_large = Some(Code::TooLarge);
    refused(
        "publish",
        scene.bus.publish(large()?).await,
        Kind::InvalidInput,
        too_large,
    )?;
    for result in scene.bus.publish_batch(vec![large()?]).await {
        refused("publish_batch", result, Kind::InvalidInput, too_large)?;
    }
    scene.publish([1]).await?;
    reader.expect(1, 1).await?.ack().await?;
    reader.nothing("a refused event was stored").await
}

/// In a batch, a bad entry fails alone and is the one whose result is an error; the others are stored in order.
pub async fn one_bad_entry_of_a_batch_fails_alone<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    let mut batch = (0..6)
        .map(|n| scene.keyed("k", n))
        .collect::<Result<Vec<_>, _>>()?;
    let payload = noise(scene.bus.capabilities().max_payload + 1);
    batch[3] = Event::builder(scene.topic.clone())
        .key("k")
        .payload(payload)
        .build()?;
    let results = scene.bus.publish_batch(batch).await;
    ensure_eq!(results.len(), 6, "results");
    for (n, result) in results.into_iter().enumerate() {
        if n == 3 {
            refused("the bad entry", result, Kind::InvalidInput, Some(Code::TooLarge))?;
        } else {
            result?;
        }
    }
    reader.read_all([0, 1, 2, 4, 5]).await?;
    reader.nothing("more than the good entries").await
}

/// A batch gives one result per event, in the order given; an empty batch gives none.
pub async fn a_batch_answers_once_per_event<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    ensure!(
        scene.bus.publish_batch(Vec::new()).await.is_empty(),
        "an empty batch has results"
    );
    let count = scene.profile.count(500, 50);
    let batch = (0..count)
        .map(|n| scene.event(n))
        .collect::<Result<Vec<_>, _>>()?;
    let results = scene.bus.publish_batch(batch).await;
    ensure_eq!(results.len(), count, "results");
    for result in results {
        result?;
    }
    reader.read_all(0..count).await?;
    Ok(())
}

/// Within its dedup window the bus drops a second event of the same id, and says `Ok`; without a window both arrive. An
/// event of that id on another topic, as a dead letter is, is another event.
pub async fn a_second_event_of_the_same_id_follows_the_dedup_window<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    let id = EventId::parse(&unique("id"))?;
    for _ in 0..2 {
        let event = Event::builder(scene.topic.clone()).id(id.clone());
        let event = event.header("number", "1").payload("1").build()?;
        scene.bus.publish(event).await?;
    }
    reader.expect(1, 1).await?.ack().await?;
    if scene.bus.capabilities().dedup_window.is_none() {
        reader.expect(1, 1).await?.ack().await?;
    }
    reader.nothing("one event more").await?;

    let other = Scene::new(h).await?;
    let mut reader = other.join().await?;
    let event = Event::builder(other.topic.clone()).id(id);
    let event = event.header("number", "2").payload("2").build()?;
    other.bus.publish(event).await?;
    reader.expect(2, 1).await?.ack().await?;
    Ok(())
}

/// When a group does not keep up, `publish` waits or fails as `Temporary`/`Exhausted`: it neither drops nor hoards. What
/// was acknowledged arrives once the group goes on (F-BUS-15).
pub async fn a_stuck_group_pushes_back<H: EventBusHarness>(h: &H) -> Outcome {
    let Some(backlog) = h.backlog() else {
        return Err(Failure::not_applicable(
            "the harness states no backlog: the broker's disk is the limit",
        ));
    };
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    let mut accepted = Vec::new();
    for n in 0.. {
        ensure!(
            n <= backlog,
            "{n} events were taken for a stuck group, the backlog is {backlog}"
        );
        match timeout(scene.profile.quiet * 2, scene.bus.publish(scene.event(n)?)).await {
            Ok(Ok(())) => accepted.push(n),
            Ok(Err(error)) => {
                let seen = (error.kind(), error.code());
                ensure_eq!(
                    seen,
                    (Kind::Temporary, Some(Code::Exhausted)),
                    "publish to a stuck group"
                );
                break;
            }
            Err(_) => break, // it waits
        }
    }
    reader.read_all(accepted).await?;
    // Whatever waited is over; there is room again. The one whose publish was dropped may have been stored.
    scene.publish([1_000_000]).await?;
    reader.read_all([1_000_000]).await?;
    Ok(())
}

/// Dropping a publish midway leaves the bus working: every acknowledged event arrives.
pub async fn a_cancelled_publish_harms_no_other<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut reader = scene.join().await?;
    let mut acknowledged = Vec::new();
    for n in 0..100 {
        let publish = scene.bus.publish(scene.event(n)?);
        if n % 2 == 0 {
            publish.await?;
            acknowledged.push(n);
        } else if publish.now_or_never().transpose()?.is_some() {
            acknowledged.push(n); // it did not wait at all
        }
        // A batch as well; nobody asks what became of it.
        let batch = vec![scene.event(1_000 + n)?, scene.event(2_000 + n)?];
        drop(cut(scene.bus.publish_batch(batch), n % 4).await);
    }
    let seen = reader.read_all(acknowledged).await?;
    if seen.values().any(|times| *times > 1) {
        return Err(Failure::new(format!("an event came twice: {seen:?}")));
    }
    Ok(())
}
