//! Unusual but valid input arrives unchanged. (Invalid names, keys and headers cannot be built at all.)

use cqi_core::{
    event::{Event, EventId, Subscription},
    name::{Group, topic_name},
};

use super::{
    EventBusHarness,
    basics::round_trip,
    kit::{Scene, numbered},
};
use crate::{
    conformance::{Outcome, ensure_eq},
    unique,
};

/// Texts that break careless encoders.
fn weird_texts() -> Vec<String> {
    let printable: String = (' '..='~').collect();
    [
        "",
        " ",
        " leading",
        "trailing ",
        "a/b/c",
        "..",
        "../..",
        "a\\b",
        "'quoted'",
        "\"double\"",
        "{\"json\": [1]}",
        "=?utf-8?q?=C3=A9?=",
        "%0d%0a",
        "a;b=c, d",
        "☺☺☺",
        "ñandú 日本語 🦀",
        "0",
        "null",
        "\u{202e}reversed",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([printable, "v".repeat(4096)])
    .collect()
}

/// Header values of every allowed kind arrive: blanks, quotes, slashes, all printable ASCII, non-ASCII, 4096 bytes.
pub async fn weird_header_values_arrive<H: EventBusHarness>(h: &H) -> Outcome {
    round_trip(h, |scene| {
        weird_texts()
            .into_iter()
            .map(|text| {
                let event = Event::builder(scene.topic.clone())
                    .header("weird", &text)
                    .header("plain", "a");
                Ok(event.payload(text).build()?)
            })
            .collect()
    })
    .await
}

/// Keys and ids of every allowed kind arrive.
pub async fn weird_keys_and_ids_arrive<H: EventBusHarness>(h: &H) -> Outcome {
    round_trip(h, |scene| {
        let ids = ["0", "a.b.c", "*", ">", "$JS", "!\"#%&'()+,-./:;<=>?@[]^_`{|}~"];
        let mut events: Vec<Event> = weird_texts()
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(|text| {
                let key: String = text.chars().take(100).collect();
                Ok(Event::builder(scene.topic.clone()).key(key).build()?)
            })
            .collect::<Result<_, crate::conformance::Failure>>()?;
        for id in ids {
            // Ids are unique per run: a bus with a dedup window would drop a repeated one.
            let id = EventId::parse(&format!("{id}{}", unique("")))?;
            events.push(Event::builder(scene.topic.clone()).id(id).build()?);
        }
        let longest = format!("{}{}", unique(""), "i".repeat(111));
        events.push(
            Event::builder(scene.topic.clone())
                .id(EventId::parse(&longest[..128])?)
                .key("k".repeat(512))
                .build()?,
        );
        Ok(events)
    })
    .await
}

/// A topic of 200 and a group of 63 characters work.
pub async fn the_longest_names_work<H: EventBusHarness>(h: &H) -> Outcome {
    let mut scene = Scene::new(h).await?;
    scene.group = Group::parse(&format!("{:-<63}", unique("g")))?;
    let mut reader = scene.join().await?;
    scene.publish([1]).await?;
    reader.expect(1, 1).await?.ack().await?;

    scene.topic = topic_name(&format!("{:_<200}", unique("t")))?;
    let mut reader = scene.join().await?;
    scene.publish([2]).await?;
    reader.expect(2, 1).await?.ack().await?;
    Ok(())
}

/// Topics that are prefixes of each other, and a topic and its dead-letter topic, are different topics.
pub async fn similar_topics_do_not_mix<H: EventBusHarness>(h: &H) -> Outcome {
    let scene = Scene::new(h).await?;
    let base = scene.topic.clone();
    let topics = [
        base.clone(),
        base.dead_letter(),
        topic_name(&format!("{}_x", base.event_type()))?,
    ];
    let mut readers = Vec::new();
    for topic in &topics {
        let subscription = Subscription::new(topic.clone(), scene.group.clone());
        readers.push(scene.join_as(subscription).await?);
    }
    for (n, topic) in topics.iter().enumerate() {
        scene.bus.publish(numbered(topic, None, n)?).await?;
    }
    for (n, (reader, topic)) in readers.iter_mut().zip(&topics).enumerate() {
        let delivery = reader.expect(n, 1).await?;
        ensure_eq!(delivery.event().topic(), topic, "topic");
        delivery.ack().await?;
    }
    for reader in &mut readers {
        reader.nothing("an event of another topic").await?;
    }
    Ok(())
}

/// The most headers an event may have all arrive.
pub async fn many_headers_arrive<H: EventBusHarness>(h: &H) -> Outcome {
    round_trip(h, |scene| {
        let mut builder = Event::builder(scene.topic.clone());
        for n in 0..64 {
            builder = builder.header(&format!("header-{n}"), &n.to_string());
        }
        Ok(vec![builder.build()?])
    })
    .await
}
