//! The event bus on Apache Kafka.
//!
//! ```no_run
//! use cqi_core::event::{Event, EventBus as _};
//! use cqi_core::name::topic_name;
//! use cqi_kafka::{KafkaBus, KafkaOptions};
//!
//! # async fn example() -> cqi_core::Result<()> {
//! let options = KafkaOptions {
//!     brokers: vec!["broker-1:9092".into(), "broker-2:9092".into()],
//!     ..KafkaOptions::default()
//! };
//! let bus = KafkaBus::connect(options).await?;
//! let event = Event::builder(topic_name("asset_created")?).key("BTC").payload("{}").build()?;
//! bus.publish(event).await?; // the in-sync replicas have it
//! bus.close().await
//! # }
//! ```
//!
//! # What to know
//! - An acknowledged event survives killed brokers (`ProcessCrash`). It survives a power loss of all in-sync replicas at
//!   once only where the brokers run with `log.flush.interval.messages=1`, which a client cannot see.
//! - Up to eight concurrent publishers share requests: an event waits for those on their way, 20 ms at most; a lone publisher
//!   for none, and of more each is the client's at once.
//!   One whose `publish` was dropped while it waited is not sent.
//! - Events travel as CloudEvents in binary mode (`ce_` headers), keyed as Java's producers key them. Records of other
//!   producers are events too. A record key that is no UTF-8 is the event's key in hexadecimal.
//! - Records compressed with gzip, Snappy or LZ4 are read, with the cargo feature `zstd` also those with zstd. Without it the
//!   first of them holds up its partition, and members are told why.
//! - The client unpacks a compressed batch as a whole, with gzip and Snappy however large that is: who may write to a topic
//!   can use up the memory of its consumers (B-15). Permission to write is what protects them.
//! - A header whose name is no UTF-8 is left out. The Kafka client panics at such a name; that is caught, but the process's
//!   panic hook prints it (`Utf8Error`, in `rdkafka`'s `message.rs`) each time.
//! - Kafka has no negative acknowledgement. Delivery state beyond the committed offset (what is settled out of order,
//!   attempts, delays) travels in the metadata of the same offset commit, so it outlives the process and reaches the next
//!   owner of the partition. Settled events are committed within 100 ms; a process that is killed in between gets them
//!   again.
//! - All subscriptions of one bus to one topic and group share one membership, so they share events one by one. Members in
//!   other processes share by partition: no more of them work than the topic has partitions.
//! - Order is strict per key: a retry holds back the later events of its key, and nothing else. It ends where the number
//!   of partitions changes, as keys then move.
//! - Moments of redelivery are compared across processes by their clocks.

mod brokers;
mod bus;
mod client;
mod config;
mod consumer;
mod error;
mod producer;
mod record;
mod topics;

pub use self::{bus::KafkaBus, config::KafkaOptions};
