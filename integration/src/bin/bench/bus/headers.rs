//! The headers that cqi sends, for the bare clients: made, and read.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

/// A new id, and what time it is.
pub(super) struct Stamp {
    pub(super) id: String,
    pub(super) time: String,
}

impl Stamp {
    pub(super) fn new() -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            time: Timestamp::now().to_string(),
        }
    }
}

/// What the headers of a message say, and its payload.
pub(super) struct Envelope {
    id: Option<Uuid>,
    time: Option<Timestamp>,
    source: String,
    content_type: String,
    key: Option<String>,
    payload: Bytes,
}

impl Envelope {
    /// Reads the headers, whose names begin with this prefix.
    pub(super) fn read<'a>(
        prefix: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        payload: Bytes,
    ) -> Self {
        let mut read = Self {
            id: None,
            time: None,
            source: String::new(),
            content_type: String::new(),
            key: None,
            payload,
        };
        for (name, value) in headers {
            match name.strip_prefix(prefix).unwrap_or(name) {
                "id" => read.id = Uuid::try_parse(value).ok(),
                "time" => read.time = value.parse().ok(),
                "source" => value.clone_into(&mut read.source),
                "content-type" => value.clone_into(&mut read.content_type),
                "partitionkey" => read.key = Some(value.to_owned()),
                _ => {}
            }
        }
        read
    }

    /// The payload, if all is there.
    pub(super) fn complete(&self) -> &[u8] {
        assert!(self.id.is_some() && self.time.is_some() && self.key.is_none());
        assert!(!self.source.is_empty() && !self.content_type.is_empty());
        &self.payload
    }
}
