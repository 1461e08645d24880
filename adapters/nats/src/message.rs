//! A JetStream message as an event.

use std::borrow::Cow;

use async_nats::{HeaderMap, Message};
use cqi_core::{
    event::{
        Event, EventId,
        envelope::{self, Fallback, Prefix},
    },
    name::Topic,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{headers, share::Held};

/// What the reply subject of a delivery says, by ADR-15 of NATS:
/// `$JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>[.<token>]`,
/// older servers without domain and account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// How often it was delivered, this time included.
    pub(crate) delivered: u32,
    /// Which message of the stream it is.
    pub(crate) sequence: u64,
    /// When the stream stored it, in nanoseconds since 1970.
    pub(crate) stored_at: i64,
}

impl Place {
    /// `consumer` is the stream and the consumer, each with a dot behind it.
    pub(crate) fn parse(reply: &str, consumer: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let behind_domain = || rest.splitn(3, '.').nth(2)?.strip_prefix(consumer);
        let rest = rest.strip_prefix(consumer).or_else(behind_domain)?;
        let (delivered, rest) = number(rest.as_bytes())?;
        let (sequence, rest) = number(rest)?;
        let (_, rest) = number(rest)?;
        let (stored_at, _) = number(rest)?;
        Some(Self {
            delivered: delivered.try_into().ok()?,
            sequence,
            stored_at: stored_at.try_into().ok()?,
        })
    }
}

/// The number at the beginning of `text`, and what is behind the dot after it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, b) in text.iter().enumerate() {
        match b {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u64::from(b - b'0'))?,
            b'.' if at > 0 => return Some((number, &text[at + 1..])),
            _ => return None,
        }
    }
    None
}

/// Whose messages are read.
#[derive(Debug)]
pub(crate) struct Source {
    topic: Topic,
    stream: String,
    /// As [`Place::parse`] wants it.
    consumer: String,
}

impl Source {
    pub(crate) fn new(topic: &Topic, stream: &str, consumer: &str) -> Self {
        Self {
            topic: topic.clone(),
            stream: stream.to_owned(),
            consumer: format!("{stream}.{consumer}."),
        }
    }

    /// A message as an event; any delivery is one. It did not arrive before `since`.
    pub(crate) fn read(&self, mut message: Message, since: Instant) -> Option<Held> {
        let reply = message.reply.take();
        let place = reply
            .as_deref()
            .and_then(|reply| Place::parse(reply, &self.consumer));
        let (Some(reply), Some(place)) = (reply, place) else {
            tracing::warn!(subject = %message.subject, "a message that is no delivery was left out");
            return None;
        };
        Some(Held {
            reply,
            bytes: message.length,
            event: event(message, &self.topic, &self.stream, place),
            place,
            since,
            released: (place.delivered == 1).then_some(0),
        })
    }
}

fn event(message: Message, topic: &Topic, stream: &str, place: Place) -> Event {
    let Message { headers, payload, .. } = message;
    let values = headers.iter().flat_map(headers::read);
    let values = values.map(|(name, value)| match value {
        Cow::Borrowed(text) => (name, Cow::Borrowed(text.as_bytes())),
        Cow::Owned(text) => (name, Cow::Owned(text.into_bytes())),
    });
    let fallback = Stored {
        headers: headers.as_ref(),
        stream,
        place,
    };
    envelope::read(Prefix::Dash, topic, payload, values, &fallback, None)
}

/// What the stream tells of a message, the same for every delivery of it.
struct Stored<'a> {
    headers: Option<&'a HeaderMap>,
    stream: &'a str,
    place: Place,
}

impl Fallback for Stored<'_> {
    fn id(&self) -> EventId {
        let given = || {
            let given = self.headers?.get_last(async_nats::header::NATS_MESSAGE_ID)?;
            EventId::parse(given.as_str()).ok()
        };
        let place = || EventId::parse(&format!("{}-{}", self.stream, self.place.sequence)).ok();
        given().or_else(place).unwrap_or_default()
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.place.stored_at.into()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B-13: nothing is answered but to the server's own subjects, whatever a message names.
    #[test]
    fn places_of_old_and_new_servers_are_read() {
        let place = Some(Place {
            delivered: 3,
            sequence: 17,
            stored_at: 1_700_000_000_000_000_000,
        });
        for reply in [
            "$JS.ACK.S.c.3.17.9.1700000000000000000.0",
            "$JS.ACK._.hash.S.c.3.17.9.1700000000000000000.0",
            "$JS.ACK.hub.hash.S.c.3.17.9.1700000000000000000.0.token",
        ] {
            assert_eq!(Place::parse(reply, "S.c."), place, "{reply}");
        }
        for bad in [
            "",
            "$JS.ACK.",
            "_INBOX.x",
            "$JS.ACK.S.c.x.17.9.1.0",
            "$JS.ACK.S.c..17.9.1.0",
            "$JS.ACK.S.c.1.17.9.99999999999999999999.0",
            "$JS.ACK.S.c.1.17.9.9999999999999999999.0",
            "$JS.ACK.S.c.4294967296.17.9.1.0",
            "$JS.ACK.a.b.c.d.e.f.g.h",
            "$JS.ACK.S.other.1.17.9.1.0",
            "$JS.ACK.S.c.1.17.9.1",
        ] {
            assert_eq!(Place::parse(bad, "S.c."), None, "{bad}");
        }
    }
}
