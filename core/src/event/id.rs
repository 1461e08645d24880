//! The identity of an event.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{Error, Result};

/// The longest id of an event, in bytes.
const MAX_ID: usize = 128;

/// The identity of an event: a UUIDv7 of ours, or the text another producer chose.
///
/// Together with the source it is what consumers recognise duplicates by, and what is handed to the broker for its
/// own deduplication.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventId(IdRepr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum IdRepr {
    Uuid(Uuid),
    Text(Arc<str>),
}

impl EventId {
    /// A new UUIDv7: unique, and rising with time.
    pub fn new() -> Self {
        Self::at(Timestamp::now())
    }

    /// A new UUIDv7 of a moment. The random part comes from the thread's generator: no system call for each event.
    pub(super) fn at(time: Timestamp) -> Self {
        let millis = u64::try_from(time.as_millisecond()).unwrap_or_default();
        Self(IdRepr::Uuid(
            uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid(),
        ))
    }

    /// Takes an id from outside.
    ///
    /// # Errors
    /// `InvalidInput` when it is empty, over 128 bytes, or has a character outside printable ASCII.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(uuid) = uuid(text.as_bytes()) {
            return Ok(Self(IdRepr::Uuid(uuid)));
        }
        if text.is_empty() || text.len() > MAX_ID || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(
                Error::invalid_input("event id must be 1 to 128 printable ASCII characters")
                    .with_context("id", crate::name::shown(text)),
            );
        }
        Ok(Self(IdRepr::Text(text.into())))
    }

    /// As [`EventId::parse`], of bytes that need not be text.
    pub(super) fn received(bytes: &[u8]) -> Option<Self> {
        match uuid(bytes) {
            Some(uuid) => Some(Self(IdRepr::Uuid(uuid))),
            None => Self::parse(str::from_utf8(bytes).ok()?).ok(),
        }
    }
}

/// A UUID as we write it; in any other form it would not be written again as it was.
fn uuid(bytes: &[u8]) -> Option<Uuid> {
    let lower = |bytes: &[u8]| !bytes.iter().fold(false, |any, b| any | b.is_ascii_uppercase());
    (bytes.len() == 36 && lower(bytes))
        .then(|| Uuid::try_parse_ascii(bytes).ok())
        .flatten()
}

impl Default for EventId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            IdRepr::Uuid(uuid) => fmt::Display::fmt(uuid, f),
            IdRepr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ML-MSG-2: made where none is given, and each another one.
    #[test]
    fn ml_msg_2_new_ids_are_unique() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| EventId::new()).collect();
        assert_eq!(ids.len(), 10_000);
    }

    #[test]
    fn ids_of_ours_and_of_others_round_trip() {
        let id = EventId::new();
        assert_eq!(EventId::parse(&id.to_string()).unwrap(), id);
        for text in ["order-7", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"] {
            assert_eq!(EventId::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert!(EventId::parse(bad).unwrap_err().is_invalid_input());
        }
    }
}
