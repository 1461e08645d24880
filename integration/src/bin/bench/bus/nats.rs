//! NATS JetStream: the bare client, and what the server says.

use std::{collections::VecDeque, sync::Arc};

use async_nats::{
    HeaderMap, HeaderName,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self, AckKind, Context,
        consumer::{DeliverPolicy, pull},
        context::PublishAckFuture,
    },
};
use bytes::Bytes;
use cqi_core::{event::EventBus, name::Topic};
use cqi_nats::{NatsBus, NatsOptions};
use cqi_testkit::fixture::Kind;
use futures::StreamExt as _;

use super::{
    BATCH, Broker, Peer, Seen, Work,
    headers::{Envelope, Stamp},
};
use crate::measure::payload;

const SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
const ID: HeaderName = HeaderName::from_static("ce-id");
const SOURCE: HeaderName = HeaderName::from_static("ce-source");
const TYPE: HeaderName = HeaderName::from_static("ce-type");
const TIME: HeaderName = HeaderName::from_static("ce-time");
const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");

pub(super) struct Nats {
    url: String,
    jetstream: Context,
}

/// The bare client on one topic.
pub(super) struct Bare {
    jetstream: Context,
    topic: Topic,
}

impl Broker for Nats {
    const KIND: Kind = Kind::Nats;
    const PEER: &'static str = "async-nats";
    const WINDOW: (&'static str, usize) = ("publish window 256", 256);
    const CONSUME: &'static str = "consume + ack";
    const ENVELOPE: &'static str = "async-nats+envelope";
    const COUNTS: [(usize, usize); 2] = [(2_000, 20_000), (2_000, 8_000)];
    const CONSUMED: usize = 4;
    const SHARED: (f64, &'static str) = (5.0, "publish sync");
    type Bare = Bare;

    async fn connect(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            jetstream: connect(url).await,
        }
    }

    /// The adapter makes its stream itself, and the bare client uses that one.
    async fn create(&self, topic: &Topic) {
        let bus = self.adapter(topic).await;
        bus.close().await.expect("a bus that closes");
    }

    async fn delete(&self, topic: &Topic) {
        self.jetstream
            .delete_stream(stream(topic))
            .await
            .expect("a stream less");
    }

    async fn stored(&self, topic: &Topic) -> usize {
        let mut stream = self.jetstream.get_stream(stream(topic)).await.expect("a stream");
        let info = stream.info().await.expect("the stream's state");
        usize::try_from(info.state.messages).expect("a count")
    }

    /// A stream holds one topic, and has one consumer at a time.
    async fn settled(&self, topic: &Topic, _: &str) -> usize {
        let stream = self.jetstream.get_stream_no_info(stream(topic)).await;
        let stream = stream.expect("a stream");
        let mut newest = None;
        let mut consumers = stream.consumers();
        while let Some(info) = consumers.next().await {
            let info = info.expect("the consumer's state");
            let (created, floor) = (info.created, info.ack_floor.stream_sequence);
            if newest.is_none_or(|(latest, _)| created > latest) {
                newest = Some((created, floor));
            }
        }
        newest.map_or(0, |(_, floor)| usize::try_from(floor).expect("a count"))
    }

    async fn bare(&self, topic: &Topic) -> Bare {
        Bare {
            jetstream: connect(&self.url).await, // a connection of its own, as the adapter has
            topic: topic.clone(),
        }
    }

    async fn adapter(&self, topic: &Topic) -> Arc<dyn EventBus> {
        let mut options = NatsOptions::new(&self.url);
        options.stream.name = stream(topic);
        options.stream.subjects = vec![topic.as_str().to_owned()];
        Arc::new(NatsBus::connect(options).await.expect("a bus"))
    }
}

async fn connect(url: &str) -> Context {
    jetstream::new(async_nats::connect(url).await.expect("a connection"))
}

/// Each topic has a stream of its own, which is deleted with it.
fn stream(topic: &Topic) -> String {
    format!("CQI_{}", topic.event_type())
}

impl Bare {
    async fn send(&self, payload: Bytes) -> PublishAckFuture {
        let stamp = Stamp::new();
        let mut headers = HeaderMap::new();
        headers.insert(
            NATS_MESSAGE_ID,
            format!("{}:{}", self.topic.event_type(), stamp.id),
        );
        headers.insert(SPECVERSION, "1.0");
        headers.insert(ID, stamp.id);
        headers.insert(SOURCE, "/");
        headers.insert(TYPE, self.topic.as_str());
        headers.insert(TIME, stamp.time);
        headers.insert(CONTENT_TYPE, "application/octet-stream");
        let subject = self.topic.as_str().to_owned();
        let sent = self
            .jetstream
            .publish_with_headers(subject, headers, payload)
            .await;
        sent.expect("room")
    }
}

fn envelope(message: &jetstream::Message) -> Envelope {
    let headers = message.headers.as_ref().expect("headers").iter();
    let texts = headers.filter_map(|(name, values)| Some((name.as_ref(), values.last()?.as_str())));
    Envelope::read("ce-", texts, message.payload.clone())
}

impl Peer for Bare {
    type Consuming = pull::Stream;

    async fn publish(&self, payload: Bytes) {
        self.send(payload).await.await.expect("an acknowledgement");
    }

    async fn batch(&self, payloads: Vec<Bytes>) {
        let mut acks = Vec::with_capacity(payloads.len());
        for payload in payloads {
            acks.push(self.send(payload).await);
        }
        for ack in acks {
            ack.await.expect("an acknowledgement");
        }
    }

    async fn window(self: Arc<Self>, width: usize, total: usize, size: usize) {
        let mut acks = VecDeque::<PublishAckFuture>::with_capacity(width);
        for i in 0..total {
            if acks.len() == width
                && let Some(ack) = acks.pop_front()
            {
                ack.await.expect("an acknowledgement");
            }
            acks.push_back(self.send(payload(i, size)).await);
        }
        for ack in acks {
            ack.await.expect("an acknowledgement");
        }
    }

    async fn consume(&self, group: &str, work: Work, seen: Arc<Seen>) -> pull::Stream {
        let config = pull::Config {
            durable_name: Some(group.to_owned()),
            deliver_policy: DeliverPolicy::All,
            filter_subject: self.topic.as_str().to_owned(),
            max_ack_pending: 10_000,
            ..pull::Config::default()
        };
        let stream = self
            .jetstream
            .get_stream(stream(&self.topic))
            .await
            .expect("a stream");
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let messages = consumer.stream().max_messages_per_batch(BATCH).messages();
        let mut messages = messages.await.expect("messages");
        for _ in 0..seen.total() {
            let message = messages.next().await.expect("a message").expect("a message");
            match work {
                Work::Payload => seen.saw(&message.payload),
                Work::Envelope => seen.saw(envelope(&message).complete()),
            }
            message.ack_with(AckKind::Ack).await.expect("room");
        }
        messages
    }

    async fn end(_: pull::Stream) {}
}
