//! Answers that are late, partitions without a leader, a group that is denied: what only a broker that obeys can show.

use std::time::Duration;

use cqi_core::{
    Code,
    event::{Event, EventBus as _, Subscription},
    name::{Group, Topic, topic_name},
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::unique;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::{
    net::TcpSocket,
    task::block_in_place,
    time::{Instant, sleep, timeout},
};

/// Keys that go to the first and to the second of two partitions.
const KEYS: [&str; 2] = ["21", "abc"];

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A broker with a topic of two partitions.
fn cluster() -> (Cluster, Topic) {
    let cluster = MockCluster::new(1).unwrap();
    let topic = topic_name(&unique("mocked")).unwrap();
    cluster.create_topic(topic.as_str(), 2, 1).unwrap();
    (cluster, topic)
}

fn options(cluster: &Cluster) -> KafkaOptions {
    KafkaOptions {
        brokers: vec![cluster.bootstrap_servers()],
        create_topics: false,
        connection_timeout: Duration::from_secs(20), // the machine has other work too
        ..KafkaOptions::default()
    }
}

fn event(topic: &Topic, key: &str) -> Event {
    Event::builder(topic.clone()).key(key).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_may_take_its_time_and_others_may_be_away() {
    let (cluster, _) = cluster();
    cluster
        .broker_round_trip_time(1, Duration::from_millis(400))
        .unwrap();
    let slow = options(&cluster);
    KafkaBus::connect(slow.clone())
        .await
        .unwrap()
        .ping()
        .await
        .unwrap();
    let mut some_away = slow;
    some_away
        .brokers
        .extend((9..13).map(|port| format!("127.0.0.1:{port}")));
    KafkaBus::connect(some_away).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_for_a_topic_counts_against_the_time_for_publishing() {
    let (cluster, topic) = cluster();
    let hasty = KafkaOptions {
        publish_timeout: Duration::from_millis(500),
        ..options(&cluster)
    };
    let bus = KafkaBus::connect(hasty).await.unwrap();
    let hang = Duration::from_secs(3);
    cluster.broker_round_trip_time(1, hang).unwrap();
    let start = Instant::now();
    let publish = || bus.publish(event(&topic, KEYS[0]));
    let batch = vec![event(&topic, KEYS[1]); 4];
    let (one, another, batch) = tokio::join!(publish(), publish(), bus.publish_batch(batch));
    assert!(start.elapsed() < hang, "took {:?}", start.elapsed());
    for result in [one, another].into_iter().chain(batch) {
        let error = result.unwrap_err();
        assert!(error.is_temporary() && !error.may_have_applied(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_looks_for_its_topic_once() {
    let (cluster, topic) = cluster();
    let bus = KafkaBus::connect(options(&cluster)).await.unwrap();
    let slow = Duration::from_millis(300);
    cluster.broker_round_trip_time(1, slow).unwrap();
    let missing = topic_name(&unique("missing")).unwrap();
    let start = Instant::now();
    let mut batch = vec![event(&missing, KEYS[0]); 10];
    batch.push(event(&topic, KEYS[0]));
    let mut results = bus.publish_batch(batch).await;
    results.pop().unwrap().unwrap();
    assert!(start.elapsed() < slow * 8, "took {:?}", start.elapsed());
    for result in results {
        let error = result.unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_holds_up_no_other() {
    let (cluster, topic) = cluster();
    cluster.partition_leader(topic.as_str(), 0, None).unwrap();
    let small = KafkaOptions {
        max_in_flight: 3,
        publish_timeout: Duration::from_secs(15), // the machine has other work too
        ..options(&cluster)
    };
    let bus = KafkaBus::connect(small).await.unwrap();
    bus.publish(event(&topic, KEYS[1])).await.unwrap();

    // More than there is room for at once: the end of the batch goes although its beginning waits.
    let mut batch = vec![event(&topic, KEYS[0])];
    batch.extend((0..5).map(|_| event(&topic, KEYS[1])));
    let looking: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .create()
        .unwrap();
    let all_but_one = async {
        let stored =
            || block_in_place(|| looking.fetch_watermarks(topic.as_str(), 1, Duration::from_secs(2)));
        while !matches!(stored(), Ok((0, 6))) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let mut batch = std::pin::pin!(bus.publish_batch(batch));
    tokio::select! {
        biased;
        () = all_but_one => {}
        results = &mut batch => panic!("the end waited for the beginning: {results:?}"),
    }
    let mut results = batch.await.into_iter();
    let stuck = results.next().unwrap().unwrap_err();
    assert_eq!(stuck.code(), Some(Code::Timeout), "{stuck}");
    for result in results {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_leaders_takes_no_time_from_others() {
    let (cluster, away) = cluster();
    for partition in 0..2 {
        cluster.partition_leader(away.as_str(), partition, None).unwrap();
    }
    let [here, also_here] = [(); 2].map(|()| {
        let topic = topic_name(&unique("here")).unwrap();
        cluster.create_topic(topic.as_str(), 2, 1).unwrap();
        topic
    });
    let bus = KafkaBus::connect(KafkaOptions {
        publish_timeout: Duration::from_secs(15), // the machine has other work too
        ..options(&cluster)
    });
    let bus = bus.await.unwrap();
    let mut hopeless = std::pin::pin!(bus.publish(event(&away, KEYS[0])));
    tokio::select! {
        biased;
        error = &mut hopeless => panic!("so soon: {error:?}"),
        published = bus.publish(event(&here, KEYS[0])) => published.unwrap(),
    }
    let batch = [&away, &also_here, &away, &here].map(|topic| event(topic, KEYS[1]));
    let (_, results) = tokio::join!(hopeless, bus.publish_batch(batch.to_vec()));
    let stored: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(stored, [false, true, false, true], "{results:?}");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_are_larger_than_the_room_go_through() {
    let (cluster, topic) = cluster();
    let small = KafkaOptions {
        max_in_flight: 3,
        ..options(&cluster)
    };
    let bus = KafkaBus::connect(small).await.unwrap();
    for _ in 0..200 {
        for result in bus.publish_batch(vec![event(&topic, KEYS[0]); 16]).await {
            result.unwrap();
        }
    }
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_denied_is_told_before_the_time_for_joining_is_over() {
    let (cluster, topic) = cluster();
    let bus = KafkaBus::connect(options(&cluster)).await.unwrap();
    let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 100];
    cluster.request_errors(RDKafkaApiKey::FindCoordinator, &denied);
    let start = Instant::now();
    let subscription = Subscription::new(topic, Group::parse("denied").unwrap());
    let both = tokio::join!(bus.subscribe(subscription.clone()), bus.subscribe(subscription));
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "took {:?}",
        start.elapsed()
    );
    for refused in [both.0, both.1] {
        let error = refused.map(|_| ()).unwrap_err();
        assert!(
            error.is_unauthorized() && error.code() == Some(Code::PermissionDenied),
            "{error}"
        );
    }
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_thrown_out_of_a_new_group_joins_again() {
    let (cluster, topic) = cluster();
    let patient = KafkaOptions {
        session_timeout: Duration::from_secs(6), // for so long the broker waits for who was thrown out
        join_timeout: Duration::from_secs(60),
        ..options(&cluster)
    };
    let bus = KafkaBus::connect(patient).await.unwrap();
    let unknown = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID; 1];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &unknown);
    let subscription = Subscription::new(topic.clone(), Group::parse("new").unwrap());
    let mut deliveries = bus.subscribe(subscription).await.unwrap();
    for key in KEYS {
        bus.publish(event(&topic, key)).await.unwrap();
        let delivery = loop {
            let next = timeout(Duration::from_secs(30), deliveries.next(1)).await;
            if let Ok(mut batch) = next.expect("no event").unwrap() {
                break batch.remove(0);
            }
        };
        assert_eq!(delivery.event().key(), Some(key));
        delivery.ack().await.unwrap();
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn brokers_that_are_all_away_are_told_before_the_time_is_over() {
    let held = TcpSocket::new_v4().unwrap(); // it does not listen, and nobody else can
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let away = KafkaOptions {
        brokers: vec![address.to_string()],
        connection_timeout: Duration::from_secs(60),
        ..KafkaOptions::default()
    };
    let connecting = timeout(Duration::from_secs(30), KafkaBus::connect(away)).await;
    let error = connecting
        .expect("it waits for the rest of its time")
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable), "{error:?}");
}
