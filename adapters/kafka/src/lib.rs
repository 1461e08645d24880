//! The event bus on Apache Kafka.

mod bus;
mod client;
mod config;
mod consumer;
mod error;
mod producer;
mod record;
mod topics;

pub use self::{bus::KafkaBus, config::KafkaOptions};
