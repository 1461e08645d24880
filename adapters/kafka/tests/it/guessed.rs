//! What the client guesses to be stored is not acknowledged.

use std::time::Duration;

use cqi_core::{
    event::{Event, EventBus},
    name::topic_name,
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

/// Two events of one partition are under way at once. The broker refuses the first, as it is not its leader yet, and
/// takes the second. From that the client concludes that the first one is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_bus_01_an_event_the_broker_refused_is_not_ok_because_a_later_one_was_stored() {
    let cluster = MockCluster::new(1).unwrap();
    let topic = topic_name(&cqi_testkit::unique("guessed")).unwrap();
    cluster.create_topic(topic.as_str(), 1, 1).unwrap();
    let bus = KafkaBus::connect(KafkaOptions {
        brokers: vec![cluster.bootstrap_servers()],
        ..KafkaOptions::default()
    })
    .await
    .unwrap();
    let event = || {
        Event::builder(topic.clone())
            .key("k")
            .payload("x")
            .build()
            .unwrap()
    };
    // Topic and producer are known from here on: what comes is sent at once.
    bus.publish(event()).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION],
    );
    cluster
        .broker_round_trip_time(1, Duration::from_millis(300))
        .unwrap();
    let first = bus.publish(event());
    let second = async {
        // Into the round trip of the first: they are two requests.
        tokio::time::sleep(Duration::from_millis(100)).await;
        bus.publish(event()).await
    };
    let (first, second) = tokio::join!(first, second);
    second.unwrap();
    let error = first.unwrap_err();
    assert!(error.is_temporary() && error.may_have_applied(), "{error:?}");
    bus.close().await.unwrap();
}
