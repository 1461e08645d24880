//! An event that cannot be decoded, through the facade: it is put aside and holds nobody up.

use cqi::{
    Cqi,
    config::Config,
    event::{Event, Json, Received, Router as Events, Subscription, header},
    name::{Group, Topic, topic_name},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::support::{PATIENCE, alone};

/// OP-22, P-BUS-1, INT-4.
#[test]
fn h_10_an_undecodable_event_is_put_aside_and_holds_nobody_up() {
    // A process has one log, and connecting installs it.
    alone(
        "dead_letter::h_10_an_undecodable_event_is_put_aside_and_holds_nobody_up",
        async || {
            let topic = topic_name("number_chosen").unwrap();
            let mut config = Config {
                service_name: "numbers".to_owned(),
                ..Config::default()
            };
            config.metrics.port = 0;
            let cqi = Cqi::connect(config).await.unwrap();
            let (bus, metrics) = (cqi.bus(), cqi.metrics().clone());
            let (handled, mut handling) = mpsc::channel(10);
            let events = Events::new().on(topic.clone(), move |number: Received<Json<u32>>| {
                let handled = handled.clone();
                async move {
                    handled.send(number.0).await.unwrap();
                    Ok(())
                }
            });
            let app = cqi.subscriber(events).unwrap().app().unwrap();
            let handle = app.handle();
            let watcher = Group::parse("watcher").unwrap();
            let mut letters = bus
                .subscribe(Subscription::new(topic.dead_letter(), watcher))
                .await
                .unwrap();
            let mut running = JoinSet::new();
            running.spawn(app.run());
            handle.running().await.unwrap();

            // The bad one stands between good ones of its own key, which are handled in order.
            let bad = event(&topic, "key", "{\"canary\":");
            for event in [
                event(&topic, "key", "1"),
                bad.clone(),
                event(&topic, "key", "2"),
                event(&topic, "other", "3"),
            ] {
                bus.publish(event).await.unwrap();
            }
            let mut seen = Vec::new();
            for _ in 0..3 {
                seen.push(
                    timeout(PATIENCE, handling.recv())
                        .await
                        .expect("events are held up")
                        .unwrap(),
                );
            }
            let of_key: Vec<u32> = seen.iter().copied().filter(|number| *number != 3).collect();
            assert_eq!(of_key, [1, 2], "{seen:?}");

            let letter = timeout(PATIENCE, letters.next(10))
                .await
                .expect("no dead letter")
                .unwrap()
                .unwrap();
            assert_eq!(letter.len(), 1);
            let letter = letter.into_iter().next().unwrap();
            let told = |name| letter.event().headers().get(name).unwrap_or_default().to_owned();
            assert_eq!(
                (letter.event().id(), letter.event().payload()),
                (bad.id(), bad.payload())
            );
            assert_eq!(told(header::TOPIC), topic.as_str());
            assert_eq!(told(header::GROUP), "numbers");
            assert_eq!(told(header::ATTEMPTS), "1");
            assert_eq!(told(header::ERROR_CODE), "UNDECODABLE");
            assert!(!told(header::ERROR).contains("canary"), "{}", told(header::ERROR));
            letter.ack().await.unwrap();
            letters.close().await.unwrap();

            let counted = format!(
                "numbers_bus_messages_dead_lettered_total{{error_type=\"UNDECODABLE\",topic=\"{topic}\"}} 1"
            );
            let metrics = metrics.render();
            assert!(metrics.contains(&counted), "no {counted} in {metrics}");
            handle.shutdown().await.unwrap();
            running.join_next().await.unwrap().unwrap().unwrap();
        },
    );
}

fn event(topic: &Topic, key: &str, payload: &'static str) -> Event {
    Event::builder(topic.clone())
        .key(key)
        .payload(payload)
        .build()
        .unwrap()
}
