//! Events as Kafka records, and back.

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
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

/// Makes events of records.
///
/// Payloads that are small share memory in groups: one at a time would cost an allocation each, which is freed again
/// only after others came between. An event that is kept for long keeps no more than [`SHARED`] bytes beyond its own.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    spare: BytesMut,
    spent: Vec<Event>,
}

/// What payloads share.
const SHARED: usize = 4096;
/// A payload of more than this has its memory for itself.
const SMALL: usize = SHARED / 4;

impl Decoder {
    /// Events that are settled, for their memory. To be filled up by whoever has some.
    pub(crate) fn spent(&mut self) -> &mut Vec<Event> {
        &mut self.spent
    }

    /// The event of a record. Every record is one: what a foreign producer left out, or wrote in another way, is made of
    /// the record's position; a tombstone has an empty payload.
    pub(crate) fn event(&mut self, topic: &Topic, record: &BorrowedMessage<'_>) -> Event {
        let bytes = record.payload().unwrap_or_default();
        let payload = self.payload(bytes);
        // The client panics on a name that is not UTF-8, which any foreign producer may write: then each header is
        // taken by itself.
        let spent = self.spent.pop();
        catch_unwind(AssertUnwindSafe(|| read(topic, record, payload, spent, header)))
            .unwrap_or_else(|_| read(topic, record, self.payload(bytes), None, header_if_text))
    }

    /// A copy: the record's own memory is the client's.
    fn payload(&mut self, payload: &[u8]) -> Bytes {
        if payload.len() > SMALL {
            return Bytes::copy_from_slice(payload);
        }
        if self.spare.capacity() < payload.len() {
            self.spare = BytesMut::with_capacity(SHARED);
        }
        self.spare.extend_from_slice(payload);
        self.spare.split().freeze()
    }
}

fn read(
    topic: &Topic,
    record: &BorrowedMessage<'_>,
    payload: Bytes,
    spent: Option<Event>,
    header: impl Fn(&BorrowedHeaders, usize) -> Option<(&str, &[u8])>,
) -> Event {
    let all = record.headers();
    let texts = (0..all.map_or(0, Headers::count)).filter_map(|at| header(all?, at));
    envelope::read(
        Prefix::Underscore,
        topic,
        payload,
        texts,
        &Position(topic, record),
        spent,
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
        self.1.key().map(key_text)
    }
}

/// The key as it is, or its bytes in hexadecimal if it is no text: records of one key stay in order either way.
fn key_text(key: &[u8]) -> Arc<str> {
    if let Ok(text) = str::from_utf8(key) {
        return Arc::from(text);
    }
    let mut text = String::with_capacity(2 * key.len());
    for byte in key {
        let _ = write!(text, "{byte:02x}"); // writing to a String does not fail
    }
    Arc::from(text)
}

/// One header, if it has a value.
fn header(headers: &BorrowedHeaders, at: usize) -> Option<(&str, &[u8])> {
    let header = headers.get(at);
    Some((header.key, header.value?))
}

/// The same, if its name is text.
fn header_if_text(headers: &BorrowedHeaders, at: usize) -> Option<(&str, &[u8])> {
    catch_unwind(AssertUnwindSafe(|| header(headers, at))).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_no_text_is_a_key() {
        assert_eq!(&*key_text("Ключ".as_bytes()), "Ключ");
        assert_eq!(&*key_text(&[0xff, 0x00, 0x0a]), "ff000a");
        assert_ne!(key_text(&[0xff]), key_text(&[0xfe]));
    }

    #[test]
    fn small_payloads_share_memory_and_stay_what_they_are() {
        let mut decoder = Decoder::default();
        let sizes = [0, 1, 300, SMALL, SMALL + 1, SMALL, 700, SMALL, SMALL, 5];
        let made: Vec<_> = sizes
            .into_iter()
            .zip(1_u8..)
            .map(|(size, byte)| (decoder.payload(&vec![byte; size]), vec![byte; size]))
            .collect();
        for (payload, expected) in &made {
            assert_eq!(payload, expected);
        }
        let at = |of: usize| made[of].0.as_ptr();
        assert_eq!(at(2), at(1).wrapping_add(1));
        assert_eq!(at(5), at(3).wrapping_add(SMALL));
        assert!(decoder.spare.capacity() <= SHARED);
    }
}
