//! The adapter against a real Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // tests

mod apart;
mod checker;
mod conformance;
mod faults;
mod foreign;
mod forgotten;
mod guessed;
mod joining;
mod mocked;
mod secure;
mod slow;
mod support;
