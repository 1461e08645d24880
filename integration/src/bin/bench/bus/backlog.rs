//! How much memory a consumer takes that has much before it. It is a process of its own, so that only it is measured.

use std::{process::Stdio, sync::Arc, time::Duration};

use cqi_core::{
    event::{ConsumeOptions, Message, Route},
    name::Topic,
};
use tokio::{process::Command, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Broker, Kafka, Nats, Peer as _, Seen, consume::new_group, cqi::Consuming, new_topic};
use crate::{
    measure::{own_peak, own_resident},
    report::{Report, Target, say},
};

const SIZE: usize = 4096;
const EVENTS: usize = 100_000;
/// Publishes on their way while the backlog is made.
const WIDTH: usize = 1024;

/// What the consumer's process is told.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) url: String,
    pub(crate) topic: String,
    pub(crate) total: usize,
}

pub(super) async fn round<B: Broker>(report: &mut Report, broker: &B, url: &str) {
    if !report.has("cqi") {
        return;
    }
    let (topic, total) = (new_topic("backlog"), report.count(EVENTS));
    broker.create(&topic).await;
    Arc::new(broker.bare(&topic).await)
        .window(WIDTH, total, SIZE)
        .await;
    let this = std::env::current_exe().expect("the path of this program");
    let output = Command::new(this)
        .args(["backlog", url, topic.as_str(), &total.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = output.await.expect("this program, once more");
    assert!(output.status.success(), "the consumer of the backlog failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text
        .split_whitespace()
        .map(|number| number.parse::<f64>().expect("a number"));
    let (rest, peak) = numbers.next().zip(numbers.next()).expect("two numbers");
    broker.delete(&topic).await;
    report.figure("backlog: memory at rest", "cqi", SIZE, rest, "MiB");
    let case = "backlog: most memory above that";
    report.figure(case, "cqi", SIZE, peak - rest, "MiB");
    report.target(case, SIZE, "MiB", Target::Below(64.0));
    report.note(format!("backlog: a process with default settings connects (at rest), joins a group with {total} events before it, whose handlers stand still until it takes no more, and then handles all"));
}

impl Backlog {
    /// Consumes, and prints the resident memory before, and the most of it, in MiB.
    pub(crate) async fn work(self) {
        if self.url.starts_with("kafka:") {
            self.consume::<Kafka>().await;
        } else {
            self.consume::<Nats>().await;
        }
    }

    async fn consume<B: Broker>(self) {
        let topic = Topic::parse(&self.topic).expect("a valid topic");
        let bus = B::connect(&self.url).await.adapter(&topic).await;
        let (seen, open) = (Seen::new(self.total, SIZE), CancellationToken::new());
        let (handler, gate) = (Arc::clone(&seen), open.clone());
        let route = Route::from_fn(move |message: Message| {
            let (seen, gate) = (Arc::clone(&handler), gate.clone());
            async move {
                gate.cancelled().await;
                seen.saw(message.event.payload());
                Ok(())
            }
        });
        let rest = own_resident();
        let options = ConsumeOptions::default();
        let consuming = Consuming::start(Arc::clone(&bus), topic, &new_group(), route, options).await;
        let mut most = rest;
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = own_resident();
            if now <= most {
                break;
            }
            most = now;
        }
        open.cancel();
        seen.all().await;
        say(format_args!("{rest} {}", own_peak()));
        consuming.end().await;
        bus.close().await.expect("a bus that closes");
    }
}
