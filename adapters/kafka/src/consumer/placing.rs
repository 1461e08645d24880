//! Where a group stands: committed positions with their notes, and first positions for partitions that have none.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use cqi_core::{event::StartAt, name::Topic};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};

use super::{callbacks::Callbacks, partition::Position};

/// How long one question to the brokers may take.
const ANSWER: Duration = Duration::from_secs(2);

/// The partitions of `topic`.
pub(super) fn partitions(consumer: &BaseConsumer<Callbacks>, topic: &Topic) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic.as_str()), ANSWER)?;
    let found = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic.as_str());
    match found {
        Some(found) if found.error().is_none() && !found.partitions().is_empty() => Ok(found
            .partitions()
            .iter()
            .map(|partition| partition.id())
            .collect()),
        _ => Err(KafkaError::MetadataFetch(
            RDKafkaErrorCode::UnknownTopicOrPartition,
        )),
    }
}

/// What the group has committed for each of `partitions`, `None` where it has nothing.
pub(super) fn committed(
    consumer: &BaseConsumer<Callbacks>,
    topic: &Topic,
    partitions: &[i32],
) -> KafkaResult<Vec<(i32, Option<Position>)>> {
    let list = consumer.committed_offsets(list(topic, partitions), ANSWER)?;
    let mut all = Vec::with_capacity(partitions.len());
    for element in list.elements() {
        element.error()?;
        let position = match element.offset() {
            Offset::Offset(offset) => Some(Position {
                partition: element.partition(),
                offset,
                // The client panics on text that is not UTF-8, which another client may have committed.
                notes: catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned())).unwrap_or_default(),
            }),
            _ => None,
        };
        all.push((element.partition(), position));
    }
    Ok(all)
}

/// Where a partition begins for a group that has no position in it.
pub(super) fn first(
    consumer: &BaseConsumer<Callbacks>,
    topic: &Topic,
    partition: i32,
    start_at: StartAt,
) -> KafkaResult<Position> {
    let (oldest, next) = consumer.fetch_watermarks(topic.as_str(), partition, ANSWER)?;
    let offset = match start_at {
        StartAt::New => next,
        StartAt::Oldest => oldest,
    };
    Ok(Position {
        partition,
        offset,
        notes: String::new(),
    })
}

pub(super) fn list(topic: &Topic, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic.as_str(), *partition);
    }
    list
}

/// As [`list`], with offsets and notes.
pub(super) fn positioned(
    topic: &Topic,
    positions: &[Position],
    notes: bool,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for position in positions {
        let mut element = list.add_partition(topic.as_str(), position.partition);
        element.set_offset(Offset::Offset(position.offset))?;
        if notes && !position.notes.is_empty() {
            element.set_metadata(&position.notes);
        }
    }
    Ok(list)
}
