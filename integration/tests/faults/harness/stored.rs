//! What a broker has stored, read with its plain client: the adapter under test has no part in it.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use cqi_core::name::Topic;
use futures::StreamExt as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use tokio::task::spawn_blocking;

use super::broker::Broker;

/// How long a single read may take.
const LIMIT: Duration = Duration::from_secs(30);

impl Broker {
    /// The ids of all events of a topic in the order they are stored, on Kafka one partition after the other.
    pub(crate) async fn stored(self, url: &str, topic: &Topic) -> Vec<String> {
        match self {
            Self::Nats => of_stream(url, topic).await.1,
            Self::Kafka => {
                let (servers, topic) = (url.trim_start_matches("kafka://").to_owned(), topic.clone());
                let records = spawn_blocking(move || of_partitions(&servers, topic.as_str())).await;
                records.unwrap().into_iter().map(|record| record.id).collect()
            }
        }
    }
}

/// What one server of NATS has stored, and the name of the server, if it is one of a cluster: which one, it chooses.
pub(crate) async fn of_stream(url: &str, topic: &Topic) -> (Option<String>, Vec<String>) {
    let client = async_nats::connect(url).await.unwrap();
    let stream = jetstream::new(client).get_stream("CQC_EVENTS").await.unwrap();
    let config = OrderedConfig {
        filter_subject: topic.as_str().to_owned(),
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let info = consumer.cached_info();
    let reader = info.cluster.as_ref().and_then(|cluster| cluster.leader.clone());
    let mut pending = info.num_pending;
    let mut messages = consumer.messages().await.unwrap();
    let mut ids = Vec::new();
    while pending > 0 {
        let message = tokio::time::timeout(LIMIT, messages.next()).await;
        let message = message
            .unwrap_or_else(|_| panic!("{pending} of {topic} do not come"))
            .unwrap()
            .unwrap();
        pending = message.info().unwrap().pending;
        let headers = message.headers.as_ref().unwrap();
        ids.push(headers.get("ce-id").unwrap().to_string());
    }
    (reader, ids)
}

/// One record of a Kafka topic.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) key: Option<String>,
    pub(crate) partition: i32,
}

/// All records of a topic, each partition up to the end it had at first.
pub(crate) fn of_partitions(servers: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "stored")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
    let mut from_start = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), LIMIT).unwrap();
        if low < high {
            from_start
                .add_partition_offset(topic, partition.id(), Offset::Beginning)
                .unwrap();
            ends.insert(partition.id(), high);
        }
    }
    consumer.assign(&from_start).unwrap();
    let mut records: HashMap<i32, Vec<Record>> = HashMap::new();
    while !ends.is_empty() {
        let record = consumer.poll(LIMIT);
        let record = record.unwrap_or_else(|| panic!("{topic}: nothing comes up to {ends:?}"));
        let Ok(record) = record else { continue };
        if !ends.contains_key(&record.partition()) {
            continue;
        }
        if record.offset() + 1 >= ends[&record.partition()] {
            ends.remove(&record.partition());
        }
        let id = record.headers().and_then(|headers| {
            let id = headers.iter().find(|header| header.key == "ce_id")?;
            Some(String::from_utf8(id.value?.to_vec()).unwrap())
        });
        records.entry(record.partition()).or_default().push(Record {
            id: id.unwrap_or_default(),
            key: record.key().map(|key| String::from_utf8(key.to_vec()).unwrap()),
            partition: record.partition(),
        });
    }
    records.into_values().flatten().collect()
}

impl Broker {
    /// How many consumers, or members of groups, the server knows of.
    pub(crate) async fn consumers(self, url: &str) -> usize {
        match self {
            Self::Nats => {
                let client = async_nats::connect(url).await.unwrap();
                let mut stream = jetstream::new(client).get_stream("CQC_EVENTS").await.unwrap();
                stream.info().await.unwrap().state.consumer_count
            }
            Self::Kafka => {
                let servers = url.trim_start_matches("kafka://").to_owned();
                let members = spawn_blocking(move || {
                    let client: BaseConsumer = ClientConfig::new()
                        .set("bootstrap.servers", servers)
                        .create()
                        .unwrap();
                    let groups = client.fetch_group_list(None, LIMIT).unwrap();
                    groups.groups().iter().map(|group| group.members().len()).sum()
                });
                members.await.unwrap()
            }
        }
    }
}
