//! Other producers and consumers of the same topics.

use std::time::Duration;

use cqi_core::{
    Code,
    event::{Deliveries, Event, EventBus as _, StartAt, Subscription, header},
    name::{Group, topic_name},
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::{
    fixture::{self, Kind},
    unique,
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use crate::support::options;

/// Keys with the hashes of Java's `Utils.murmur2`, from the tests of Kafka itself.
const HASHES: [(&str, i32); 6] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

#[tokio::test(flavor = "multi_thread")]
async fn f_kaf_07_a_key_goes_to_the_partition_that_java_would_choose() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let twelve = KafkaOptions {
        partitions: 12,
        ..options(server)
    };
    let bus = KafkaBus::connect(twelve).await.unwrap();
    let topic = topic_name(&unique("topic")).unwrap();
    for (key, _) in HASHES {
        bus.publish(Event::builder(topic.clone()).key(key).build().unwrap())
            .await
            .unwrap();
    }
    bus.close().await.unwrap();
    let brokers = server.address().to_string();
    let mut placed = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "reads-only")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..12 {
            all.add_partition_offset(topic.as_str(), partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        let mut placed = Vec::new();
        while placed.len() < HASHES.len() {
            let record = consumer.poll(Duration::from_secs(20)).expect("a record").unwrap();
            placed.push((
                String::from_utf8(record.key().unwrap().to_vec()).unwrap(),
                record.partition(),
            ));
        }
        placed
    })
    .await
    .unwrap();
    let mut expected: Vec<_> = HASHES
        .map(|(key, hash)| (key.to_owned(), (hash & 0x7fff_ffff) % 12))
        .to_vec();
    placed.sort();
    expected.sort();
    assert_eq!(placed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_an_envelope_are_events_all_the_same() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let bus = KafkaBus::connect(options(server)).await.unwrap();
    let topic = topic_name(&unique("topic")).unwrap();
    let group = Group::parse(&unique("group")).unwrap();
    let subscription = Subscription::new(topic.clone(), group).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(subscription).await.unwrap();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", server.address().to_string())
        .create()
        .unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "null",
            value: None::<&[u8]>,
        })
        .insert(Header {
            key: "bytes",
            value: Some(&[0xff, 0xfe][..]),
        })
        .insert(Header {
            key: "a b",
            value: Some("not a token"),
        })
        .insert(Header {
            key: "ok",
            value: Some("1"),
        });
    let tombstone = FutureRecord::<[u8], [u8]>::to(topic.as_str())
        .key(&[0xff, 0x00][..])
        .headers(headers)
        .partition(0);
    let plain = FutureRecord::to(topic.as_str())
        .key("k")
        .payload("body")
        .partition(0);
    producer.send(tombstone, Duration::from_secs(5)).await.unwrap();
    producer.send(plain, Duration::from_secs(5)).await.unwrap();

    let mut got = Vec::new();
    while got.len() < 2 {
        for delivery in deliveries.next(10).await.unwrap().unwrap() {
            got.push(delivery.event().clone());
            delivery.ack().await.unwrap();
        }
    }
    let [tombstone, plain] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!((tombstone.payload().len(), tombstone.key()), (0, Some("ff00")));
    assert_eq!(tombstone.headers().iter().collect::<Vec<_>>(), [("ok", "1")]);
    assert_eq!((&plain.payload()[..], plain.key()), (&b"body"[..], Some("k")));
    assert_eq!(
        plain.id().to_string(),
        format!("{}-0-1", topic.event_type()),
        "the same for every delivery"
    );
    bus.close().await.unwrap();
}

/// F-BUS-13, OP-22: what another producer made larger than cqi would is put aside too, and does not come again for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_room_for_headers_has_a_dead_letter() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let bus = KafkaBus::connect(options(server)).await.unwrap();
    let topic = topic_name(&unique("topic")).unwrap();
    let oldest = |topic| {
        let group = Group::parse(&unique("group")).unwrap();
        bus.subscribe(Subscription::new(topic, group).with_start_at(StartAt::Oldest))
    };
    let mut deliveries = oldest(topic.clone()).await.unwrap();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", server.address().to_string())
        .set("message.max.bytes", "1048588")
        .create()
        .unwrap();
    let payload = vec![7_u8; bus.capabilities().max_payload + 50_000];
    let record = FutureRecord::to(topic.as_str()).key("k").payload(&payload);
    producer.send(record, Duration::from_secs(20)).await.unwrap();
    let event = first(&mut *deliveries).await;
    assert_eq!(event.payload(), &payload);
    let letter = event.clone().with_protocol_header(header::GROUP, "g").unwrap();
    bus.publish(letter.with_topic(topic.dead_letter())).await.unwrap();
    let mut letters = oldest(topic.dead_letter()).await.unwrap();
    assert_eq!(first(&mut *letters).await.payload(), &payload);
    let error = bus.publish(event).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::TooLarge), "{error}");
    bus.close().await.unwrap();
}

/// The first event that comes, which is then settled.
async fn first(deliveries: &mut dyn Deliveries) -> Event {
    let read = async {
        loop {
            let batch = deliveries.next(1).await.unwrap().unwrap();
            if let Some(delivery) = batch.into_iter().next() {
                let event = delivery.event().clone();
                delivery.ack().await.unwrap();
                break event;
            }
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, read).await.expect("an event")
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_compression_are_read() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let bus = KafkaBus::connect(options(server)).await.unwrap();
    let topic = topic_name(&unique("topic")).unwrap();
    let group = Group::parse(&unique("group")).unwrap();
    let subscription = Subscription::new(topic.clone(), group).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(subscription).await.unwrap();
    let payload = "x".repeat(1000); // it is sent plain unless that makes it smaller
    let mut codecs = vec!["gzip", "snappy", "lz4"];
    if cfg!(feature = "zstd") {
        codecs.push("zstd");
    }
    for codec in codecs {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", server.address().to_string())
            .set("compression.codec", codec)
            .create()
            .unwrap();
        let record = FutureRecord::to(topic.as_str()).key(codec).payload(&payload);
        producer.send(record, Duration::from_secs(20)).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let batch = deliveries.next(8).await.unwrap().unwrap();
                if let Some(delivery) = batch.into_iter().next() {
                    break delivery;
                }
            }
        });
        let delivery = read.await.unwrap_or_else(|_| panic!("{codec} is not read"));
        assert_eq!(delivery.event().key(), Some(codec));
        assert_eq!(delivery.event().payload(), &payload);
        delivery.ack().await.unwrap();
    }
    deliveries.close().await.unwrap();
    bus.close().await.unwrap();
}

/// The broker compresses what is published to this topic, whoever does.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_topic_with_zstd_are_read_or_said_to_need_the_feature() {
    let Some(server) = fixture::require(Kind::Kafka) else {
        return;
    };
    let topic = topic_name(&unique("topic")).unwrap();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", server.address().to_string())
        .create()
        .unwrap();
    let new = NewTopic::new(topic.as_str(), 1, TopicReplication::Fixed(1)).set("compression.type", "zstd");
    for result in admin.create_topics([&new], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    let bus = KafkaBus::connect(options(server)).await.unwrap();
    let group = Group::parse(&unique("group")).unwrap();
    let subscription = Subscription::new(topic.clone(), group).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(subscription).await.unwrap();
    let payload = "x".repeat(1000);
    let event = Event::builder(topic).payload(payload.clone()).build().unwrap();
    bus.publish(event).await.unwrap();
    let next = async {
        loop {
            match deliveries.next(8).await.unwrap() {
                Ok(batch) if batch.is_empty() => {}
                other => break other,
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(30), next)
        .await
        .expect("neither");
    if cfg!(feature = "zstd") {
        let delivery = read.unwrap().remove(0);
        assert_eq!(delivery.event().payload(), &payload);
        delivery.ack().await.unwrap();
    } else {
        let error = read.unwrap_err();
        assert!(
            error.is_permanent() && error.to_string().contains("`zstd`"),
            "{error:?}"
        );
    }
    deliveries.close().await.unwrap();
    bus.close().await.unwrap();
}
