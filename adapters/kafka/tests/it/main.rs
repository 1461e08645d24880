//! The adapter against a real Apache Kafka.

mod conformance;
mod support;
