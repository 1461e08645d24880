//! Kafka: the bare client, and what the broker says.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use cqi_core::{event::EventBus, name::Topic};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::fixture::Kind;
use futures::FutureExt as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _, StreamConsumer},
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord},
};
use tokio::{
    sync::Mutex,
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};

use super::{
    Broker, Peer, Seen, Work,
    headers::{Envelope, Stamp},
};
use crate::{measure::payload, servers};

const TIMEOUT: Duration = Duration::from_secs(10);
/// As long as this the adapter waits for more before it commits at once.
const IDLE: Duration = Duration::from_millis(5);

pub(super) struct Kafka {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    /// Asked for the ends of topics.
    asking: BaseConsumer,
    /// Asked for the offset that a group has committed.
    member: Mutex<Option<(String, BaseConsumer)>>,
}

/// The bare client on one topic.
pub(super) struct Bare {
    brokers: String,
    topic: Topic,
    /// Waits for nothing.
    prompt: FutureProducer,
    /// Waits 5 ms for more.
    batching: FutureProducer,
}

impl Broker for Kafka {
    const KIND: Kind = Kind::Kafka;
    const PEER: &'static str = "rdkafka";
    const WINDOW: (&'static str, usize) = ("publish linger 5ms", 4096);
    const CONSUME: &'static str = "consume + commit";
    const ENVELOPE: &'static str = "rdkafka+envelope";
    const COUNTS: [(usize, usize); 2] = [(1_000, 40_000), (1_000, 10_000)];
    const CONSUMED: usize = 16;
    const SHARED: (f64, &'static str) = (0.5, "publish linger 5ms");
    type Bare = Bare;

    async fn connect(url: &str) -> Self {
        let brokers = servers::address(url).to_owned();
        Self {
            admin: config(&brokers).create().expect("a client"),
            asking: config(&brokers).create().expect("a client"),
            member: Mutex::default(),
            brokers,
        }
    }

    async fn create(&self, topic: &Topic) {
        let new = NewTopic::new(topic.as_str(), 1, TopicReplication::Fixed(1));
        let created = self.admin.create_topics(&[new], &AdminOptions::new()).await;
        for result in created.expect("an answer") {
            result.expect("a new topic");
        }
        // It takes a moment until the topic has a leader.
        while block_in_place(|| self.asking.fetch_watermarks(topic.as_str(), 0, TIMEOUT)).is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn delete(&self, topic: &Topic) {
        let deleted = self
            .admin
            .delete_topics(&[topic.as_str()], &AdminOptions::new())
            .await;
        deleted.expect("an answer");
    }

    async fn stored(&self, topic: &Topic) -> usize {
        let ends = block_in_place(|| self.asking.fetch_watermarks(topic.as_str(), 0, TIMEOUT));
        let (_, end) = ends.expect("the topic's ends");
        usize::try_from(end).expect("a count")
    }

    async fn settled(&self, topic: &Topic, group: &str) -> usize {
        let group = group_id(group, topic);
        let mut member = self.member.lock().await;
        let asking = match &mut *member {
            Some((of, asking)) if *of == group => asking,
            member => {
                let asking = config(&self.brokers).set("group.id", &group).create();
                &mut member.insert((group, asking.expect("a client"))).1
            }
        };
        let mut partition = TopicPartitionList::new();
        partition.add_partition(topic.as_str(), 0);
        // A broker that was just started has no coordinator of groups yet.
        let mut tries = 0;
        let committed = loop {
            let answer = block_in_place(|| asking.committed_offsets(partition.clone(), TIMEOUT));
            match answer {
                Err(_) if tries < 50 => tries += 1,
                answer => break answer.expect("an answer"),
            }
            sleep(Duration::from_millis(100)).await;
        };
        match committed.elements()[0].offset() {
            Offset::Offset(offset) => usize::try_from(offset).expect("a count"),
            _ => 0,
        }
    }

    async fn bare(&self, topic: &Topic) -> Bare {
        let producer = |linger: &str| {
            let mut config = config(&self.brokers);
            config.set("acks", "all").set("enable.idempotence", "true");
            config.set("linger.ms", linger).create().expect("a client")
        };
        Bare {
            brokers: self.brokers.clone(),
            topic: topic.clone(),
            prompt: producer("0"),
            batching: producer("5"),
        }
    }

    async fn adapter(&self, _: &Topic) -> Arc<dyn EventBus> {
        let options = KafkaOptions {
            brokers: vec![self.brokers.clone()],
            ..KafkaOptions::default()
        };
        Arc::new(KafkaBus::connect(options).await.expect("a bus"))
    }
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config.set("socket.nagle.disable", "true"); // as the adapter has it
    config
}

/// Kafka's name of a group, as the adapter makes it.
fn group_id(group: &str, topic: &Topic) -> String {
    format!("{group}.{topic}")
}

impl Bare {
    fn send(&self, producer: &FutureProducer, payload: &[u8]) -> DeliveryFuture {
        let stamp = Stamp::new();
        let mut headers = OwnedHeaders::new_with_capacity(6);
        for (key, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", &stamp.id),
            ("ce_source", "/"),
            ("ce_type", self.topic.as_str()),
            ("ce_time", &stamp.time),
            ("content-type", "application/octet-stream"),
        ] {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let record = FutureRecord::<(), _>::to(self.topic.as_str());
        let sent = producer.send_result(record.payload(payload).headers(headers));
        sent.map_err(|(error, _)| error).expect("room")
    }
}

fn envelope(message: &BorrowedMessage<'_>, payload: &[u8]) -> Envelope {
    let headers = message.headers().expect("headers").iter();
    let texts = headers.filter_map(|header| Some((header.key, str::from_utf8(header.value?).ok()?)));
    Envelope::read("ce_", texts, Bytes::copy_from_slice(payload))
}

async fn acknowledged(sent: DeliveryFuture) {
    let answer = sent.await.expect("a producer that runs");
    answer.map_err(|(error, _)| error).expect("an acknowledgement");
}

impl Peer for Bare {
    type Consuming = JoinSet<()>;

    async fn publish(&self, payload: Bytes) {
        acknowledged(self.send(&self.prompt, &payload)).await;
    }

    async fn batch(&self, payloads: Vec<Bytes>) {
        let send = |payload| self.send(&self.prompt, payload);
        let sent: Vec<_> = payloads.iter().map(|payload| send(payload)).collect();
        for sent in sent {
            acknowledged(sent).await;
        }
    }

    async fn window(self: Arc<Self>, width: usize, total: usize, size: usize) {
        let mut sent = VecDeque::with_capacity(width);
        for i in 0..total {
            if sent.len() == width
                && let Some(first) = sent.pop_front()
            {
                acknowledged(first).await;
            }
            sent.push_back(self.send(&self.batching, &payload(i, size)));
        }
        for sent in sent {
            acknowledged(sent).await;
        }
    }

    async fn consume(&self, group: &str, work: Work, seen: Arc<Seen>) -> JoinSet<()> {
        let consumer: StreamConsumer = config(&self.brokers)
            .set("group.id", group_id(group, &self.topic))
            // At least once: committed is what was stored, which is what was handled.
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "100")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // As the adapter has it: by default it waits a second once 100,000 messages are queued.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "8192")
            .create()
            .expect("a client");
        consumer
            .subscribe(&[self.topic.as_str()])
            .expect("a subscription");
        let mut consuming = JoinSet::new();
        consuming.spawn(consume(consumer, work, Arc::clone(&seen)));
        seen.all().await;
        consuming
    }

    async fn end(mut consuming: JoinSet<()>) {
        consuming.shutdown().await;
    }
}

/// Consumes for ever, without knowing which message is the last. The client commits every 100 ms what is stored; when
/// nothing comes for a moment, it is told to commit at once, as the adapter does.
async fn consume(consumer: StreamConsumer, work: Work, seen: Arc<Seen>) {
    loop {
        let received = match consumer.recv().now_or_never() {
            Some(received) => received,
            None => match timeout(IDLE, consumer.recv()).await {
                Ok(received) => received,
                Err(_) => {
                    // An error says that all is committed.
                    let _ = consumer.commit_consumer_state(CommitMode::Async);
                    consumer.recv().await
                }
            },
        };
        let message = received.expect("a message");
        let payload = message.payload().expect("a payload");
        match work {
            Work::Payload => seen.saw(payload),
            Work::Envelope => seen.saw(envelope(&message, payload).complete()),
        }
        consumer.store_offset_from_message(&message).expect("a partition");
    }
}
