//! What librdkafka calls for a consumer: all of it only notes what happened, for the driver to act on.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    types::RDKafkaRespErr,
};

use crate::{
    brokers::Brokers,
    client::{self, Trouble, lock},
};

/// A change of the assignment, which waits for the driver's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    Assign(Vec<i32>),
    Revoke(Vec<i32>),
}

#[derive(Debug, Default)]
pub(super) struct Callbacks {
    pub(super) trouble: Trouble,
    pub(super) brokers: Brokers,
    pub(super) moves: Mutex<VecDeque<Move>>,
    /// The driver is gone: moves are agreed to at once.
    pub(super) closing: AtomicBool,
    /// Counts calls, so that the driver sees whether polling did anything.
    pub(super) calls: AtomicUsize,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.calls.fetch_add(1, Relaxed);
        client::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.calls.fetch_add(1, Relaxed);
        self.trouble.note(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.calls.fetch_add(1, Relaxed);
        self.brokers.note(statistics);
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.calls.fetch_add(1, Relaxed);
        let partitions = list
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect();
        let change = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Move::Assign(partitions),
            _ => Move::Revoke(partitions),
        };
        tracing::debug!(?change, lost = consumer.assignment_lost(), "partitions move");
        if self.closing.load(SeqCst) {
            agree(consumer, &change, list);
        } else {
            lock(&self.moves).push_back(change);
        }
    }
}

/// Carries a move out. `list` holds the partitions, with the offsets to start at where they are assigned.
pub(super) fn agree(consumer: &BaseConsumer<Callbacks>, change: &Move, list: &TopicPartitionList) {
    let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
    let agreed = match (change, cooperative) {
        (Move::Assign(_), true) => consumer.incremental_assign(list),
        (Move::Assign(_), false) => consumer.assign(list),
        (Move::Revoke(_), true) => consumer.incremental_unassign(list),
        (Move::Revoke(_), false) => consumer.unassign(),
    };
    if let Err(error) = agreed {
        tracing::warn!(%error, ?change, "partitions could not be moved");
    }
}
