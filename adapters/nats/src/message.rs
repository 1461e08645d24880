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

use crate::headers;

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
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let (mut tokens, mut count) = ([""; 9], 0);
        for token in reply.strip_prefix("$JS.ACK.")?.split('.') {
            if let Some(place) = tokens.get_mut(count) {
                *place = token;
            }
            count += 1;
        }
        let [delivered, sequence, _, stored_at] = match (count, tokens) {
            (7, [_, _, a, b, c, d, ..]) | (9.., [_, _, _, _, a, b, c, d, _]) => [a, b, c, d],
            _ => return None,
        };
        Some(Self {
            delivered: delivered.parse().ok()?,
            sequence: sequence.parse().ok()?,
            stored_at: stored_at.parse().ok()?,
        })
    }
}

/// The event of a message; any message is one.
pub(crate) fn event(message: Message, topic: &Topic, stream: &str, place: Place) -> Event {
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
            assert_eq!(Place::parse(reply), place, "{reply}");
        }
        for bad in [
            "",
            "$JS.ACK.",
            "_INBOX.x",
            "$JS.ACK.S.c.x.17.9.1.0",
            "$JS.ACK.a.b.c.d.e.f.g.h",
        ] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
