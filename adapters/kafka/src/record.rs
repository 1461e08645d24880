//! Events as Kafka records, and back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use cqi_core::{
    event::{
        Event, EventId,
        envelope::{self, Fallback, Prefix},
    },
    name::Topic,
};
use jiff::Timestamp;
use rdkafka::{
    Message,
    message::{BorrowedHeaders, BorrowedMessage, Header, Headers, OwnedHeaders},
};

/// The headers `event` travels with.
pub(crate) fn headers(event: &Event) -> OwnedHeaders {
    let mut headers = Some(OwnedHeaders::new_with_capacity(8 + event.headers().len()));
    envelope::write(event, Prefix::Underscore, |key, value| {
        headers = headers.take().map(|all| {
            all.insert(Header {
                key,
                value: Some(value),
            })
        });
    });
    headers.unwrap_or_default()
}

/// The event of a record. Every record is one: what a foreign producer left out, or wrote in another way, is made of the
/// record's position; a tombstone has an empty payload.
pub(crate) fn event(topic: &Topic, record: &BorrowedMessage<'_>) -> Event {
    let payload = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    let texts = record
        .headers()
        .into_iter()
        .flat_map(|all| (0..all.count()).filter_map(|at| header(all, at)));
    envelope::read(
        Prefix::Underscore,
        topic.clone(),
        payload,
        texts,
        &Position(topic, record),
    )
}

/// What the record's position tells.
struct Position<'a>(&'a Topic, &'a BorrowedMessage<'a>);

impl Fallback for Position<'_> {
    /// An id that is the same for every delivery of the record.
    fn id(&self) -> EventId {
        let Self(topic, record) = self;
        let kind = topic.event_type();
        // An id has at most 128 bytes; the end of a long topic name tells more than its beginning.
        let kind = &kind[kind.len().saturating_sub(90)..];
        let id = format!("{kind}-{}-{}", record.partition(), record.offset());
        EventId::parse(&id).unwrap_or_default()
    }

    fn time(&self) -> Timestamp {
        let millis = self.1.timestamp().to_millis();
        millis
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn key(&self) -> Option<Arc<str>> {
        let key = std::str::from_utf8(self.1.key()?).ok()?;
        Some(Arc::from(key))
    }
}

/// One header, if its name is text and it has a value.
fn header(headers: &BorrowedHeaders, at: usize) -> Option<(&str, &[u8])> {
    // The client panics on a name that is not UTF-8, which any foreign producer may write.
    let header = catch_unwind(AssertUnwindSafe(|| headers.get(at))).ok()?;
    Some((header.key, header.value?))
}
