//! The adapter under core's consume loop: what becomes of an event.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use cqi_core::{
    Error,
    event::{Event, Json, Message, Received, Router, header},
};

use super::{
    EventBusHarness,
    kit::Scene,
    running::{Calls, Running, dead_letters, options, router},
};
use crate::conformance::{Outcome, ensure, ensure_eq};

/// A handler that succeeds is called once per event, over the ack deadline and a restart of the subscriber.
pub async fn a_handled_event_is_handled_once<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let calls = Calls::default();
    let handler = {
        let calls = calls.clone();
        move |message: Message| {
            let noted = calls.note(&message).map(drop);
            async move { noted }
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler.clone())).await?;
    scene.publish(0..20).await?;
    calls.exactly(&scene, 20).await?;
    running.stop().await??;
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    calls.exactly(&scene, 20).await?;
    running.stop().await??;
    Ok(())
}

/// An event whose handler fails for a passing reason comes again, attempt by attempt, until it succeeds.
pub async fn a_failed_event_comes_again_until_it_succeeds<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut letters = dead_letters(h, &scene).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            match noted? {
                (_, attempt) if attempt < 3 => Err(Error::temporary("not yet")),
                _ => Ok(()),
            }
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    scene.publish(0..5).await?;
    calls.exactly(&scene, 15).await?;
    running.stop().await??;
    let mut by_number: HashMap<usize, Vec<u32>> = HashMap::new();
    for (number, attempt) in calls.lock().iter() {
        by_number.entry(*number).or_default().push(*attempt);
    }
    ensure!(
        by_number.values().all(|attempts| attempts == &[1, 2, 3]),
        "attempts by event: {by_number:?}"
    );
    letters.nothing("an event that succeeded is a dead letter").await
}

/// Once its attempts are spent, an event is in the dead-letter topic, whole, with the reason in its headers, and comes no
/// more; the other events flow.
pub async fn spent_attempts_make_a_dead_letter<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut letters = dead_letters(h, &scene).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            match noted? {
                (3, _) => Err(Error::temporary("always failing")),
                _ => Ok(()),
            }
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    scene.publish(0..10).await?;
    let letter = letters.expect(3, 1).await?;
    calls.exactly(&scene, 9 + 3).await?;
    running.stop().await??;
    let event = letter.event().clone();
    letter.ack().await?;
    for (name, value) in [
        (header::TOPIC, scene.topic.as_str()),
        (header::GROUP, scene.group.as_str()),
        (header::ATTEMPTS, "3"),
        (header::ERROR_CODE, "TEMPORARY"),
    ] {
        ensure_eq!(event.headers().get(name), Some(value), "header {name}");
    }
    let reason = event.headers().get(header::ERROR).unwrap_or_default();
    ensure!(reason.contains("always failing"), "the reason says {reason:?}");
    letters.nothing("a second dead letter").await
}

/// An error that does not pass, and a body that cannot be decoded, make a dead letter after one attempt.
pub async fn a_lasting_error_makes_a_dead_letter_at_once<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let mut letters = dead_letters(h, &scene).await?;
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let router = Router::new().on(scene.topic.clone(), move |body: Received<Json<usize>>| {
        count.fetch_add(1, SeqCst);
        async move { Err(Error::permanent(format!("no use for {}", body.0))) }
    });
    let running = Running::start(&scene, options(&scene), router).await?;
    scene.publish([1]).await?;
    let undecodable = Event::builder(scene.topic.clone()).payload("canary{").build()?;
    scene.bus.publish(undecodable).await?;
    let mut codes = Vec::new();
    for letter in letters.take(2).await? {
        ensure_eq!(
            letter.event().headers().get(header::ATTEMPTS),
            Some("1"),
            "attempts"
        );
        let reason = letter.event().headers().get(header::ERROR).unwrap_or_default();
        ensure!(!reason.contains("canary"), "the reason repeats the payload");
        codes.push(
            letter
                .event()
                .headers()
                .get(header::ERROR_CODE)
                .unwrap_or_default()
                .to_owned(),
        );
        letter.ack().await?;
    }
    codes.sort();
    ensure_eq!(codes, ["PERMANENT", "UNDECODABLE"], "error codes");
    letters.nothing("a second dead letter").await?;
    running.stop().await??;
    ensure_eq!(called.load(SeqCst), 1, "calls of the handler");
    Ok(())
}

/// A handler that panics fails its own event only: that one comes again, the loop lives on.
pub async fn a_panicking_handler_fails_its_own_event_only<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let calls = Calls::default();
    let noted = calls.clone();
    let handler = move |message: Message| {
        let noted = noted.note(&message);
        async move {
            if noted? == (2, 1) {
                // Unwinds as a bug would, without the noise of the panic hook.
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            Ok(())
        }
    };
    let running = Running::start(&scene, options(&scene), router(&scene, handler)).await?;
    scene.publish(0..5).await?;
    calls.exactly(&scene, 6).await?;
    scene.publish(5..10).await?;
    calls.exactly(&scene, 11).await?;
    running.stop().await??;
    ensure!(
        calls.lock().contains(&(2, 2)),
        "the failed event did not come again: {:?}",
        calls.lock()
    );
    Ok(())
}
