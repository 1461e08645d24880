//! How an event travels in a broker's headers: CloudEvents 1.0, binary mode.
//!
//! Format: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>, with the protocol bindings' prefixes
//! (`ce-` on NATS, `ce_` on Kafka) and the partitioning extension (`partitionkey`). Payload, `content-type`, the
//! user's headers and the trace travel beside them under their own names.

mod time;

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Event, EventId,
    event::{DEFAULT_CONTENT_TYPE, Parts},
    headers::{CONTENT_TYPE, MAX_HEADERS},
};
use crate::name::Topic;

/// The length of a prefix.
const CE: usize = "ce-".len();

/// The most headers that are read: as many again as an event may have, for those of cqi's own, which do not count there.
const MOST: usize = 2 * MAX_HEADERS;

/// What a source that is not known reads as; the specification wants one that is not empty.
const NO_SOURCE: &str = "/";

/// What stands before the names of the envelope's attributes.
#[allow(clippy::exhaustive_enums)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// `ce-`: NATS and HTTP.
    Dash,
    /// `ce_`: Kafka.
    Underscore,
}

/// The attributes, without their prefix.
#[derive(Clone, Copy)]
enum Attribute {
    Version,
    Id,
    Source,
    Type,
    Time,
    Key,
}

impl Attribute {
    const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Version, "ce-specversion", "ce_specversion"),
        (Self::Id, "ce-id", "ce_id"),
        (Self::Source, "ce-source", "ce_source"),
        (Self::Type, "ce-type", "ce_type"),
        (Self::Time, "ce-time", "ce_time"),
        (Self::Key, "ce-partitionkey", "ce_partitionkey"),
    ];
}

/// What an event is given that came without an envelope, from a producer of another kind. Asked for only what is missing.
///
/// It must be the same for every delivery of the same message, so that duplicates stay recognisable: make the id of the
/// message's position.
pub trait Fallback {
    /// For a missing or malformed id.
    fn id(&self) -> EventId;

    /// For a missing or malformed time: when the broker took the message.
    fn time(&self) -> Timestamp;

    /// For a missing partition key: the broker's own key of the message, if it has keys.
    fn key(&self) -> Option<Arc<str>> {
        None
    }
}

/// Calls `header` for each header `event` travels with: the envelope, `content-type`, then the event's own headers.
///
/// Values are UTF-8, and without control characters unless a publisher has put some into source or content type.
pub fn write(event: &Event, prefix: Prefix, mut header: impl FnMut(&str, &str)) {
    let mut text = String::with_capacity(48);
    for (attribute, dash, underscore) in Attribute::ALL {
        let name = match prefix {
            Prefix::Dash => dash,
            Prefix::Underscore => underscore,
        };
        match attribute {
            Attribute::Version => header(name, "1.0"),
            Attribute::Source => header(name, event.source().unwrap_or(NO_SOURCE)),
            Attribute::Type => header(name, event.topic().as_str()),
            Attribute::Key => {
                if let Some(key) = event.key() {
                    header(name, key);
                }
            }
            Attribute::Id | Attribute::Time => {
                text.clear();
                // Writing to a String does not fail.
                let _ = match attribute {
                    Attribute::Id => write!(text, "{}", event.id()),
                    _ => write!(text, "{}", event.time()),
                };
                header(name, &text);
            }
        }
    }
    header(CONTENT_TYPE, event.content_type());
    for (name, value) in event.headers().iter() {
        header(name, value);
    }
}

/// Makes the event of a message that was received on `topic`.
///
/// It never fails: a message of a foreign producer is an event too, which its handler may find undecodable. What is
/// missing or malformed comes from `fallback`; headers that break [`Headers`](super::Headers)' rules, are too
/// many, or whose values are no text, are left out. An adapter that is through with an event may give it as `spent`: when nobody else has it, the
/// new one takes its memory.
pub fn read<'a, V: AsRef<[u8]>>(
    prefix: Prefix,
    topic: &Topic,
    payload: Bytes,
    headers: impl IntoIterator<Item = (&'a str, V)>,
    fallback: &impl Fallback,
    spent: Option<Event>,
) -> Event {
    let (mut id, mut time, mut key, mut source, mut content_type) = (None, None, None, None, None);
    let mut own = super::Headers::new();
    for (name, value) in headers {
        let value = value.as_ref();
        match known(prefix, name) {
            Some(Attribute::Id) => id = EventId::received(value),
            Some(Attribute::Time) => time = time::parse(value),
            Some(Attribute::Key) => key = str::from_utf8(value).ok().map(Arc::from),
            Some(Attribute::Source) => source = plain(value, NO_SOURCE),
            Some(Attribute::Version | Attribute::Type) => {}
            None if name == CONTENT_TYPE || name.eq_ignore_ascii_case(CONTENT_TYPE) => {
                content_type = plain(value, DEFAULT_CONTENT_TYPE);
            }
            None => {
                let inserted = own.len() < MOST
                    && str::from_utf8(value).is_ok_and(|value| own.insert_protocol(name, value).is_ok());
                if !inserted {
                    tracing::trace!(header = %crate::name::shown(name), "header left out");
                }
            }
        }
    }
    let parts = Parts {
        id: id.unwrap_or_else(|| fallback.id()),
        key: key.or_else(|| fallback.key()),
        time: time.unwrap_or_else(|| fallback.time()),
        source,
        content_type,
        headers: own,
        payload,
    };
    Event::received(topic, parts, spent)
}

/// A text that says more than `default`. What comes from outside must not carry line breaks to wherever it is written
/// next (B-07).
fn plain(value: &[u8], default: &str) -> Option<Arc<str>> {
    if value == default.as_bytes() {
        return None;
    }
    let text = str::from_utf8(value).ok()?;
    (!text.contains(char::is_control)).then(|| Arc::from(text))
}

fn known(prefix: Prefix, name: &str) -> Option<Attribute> {
    let mark = match prefix {
        Prefix::Dash => b'-',
        Prefix::Underscore => b'_',
    };
    // Most headers are not the envelope's: one look at the first bytes tells.
    let &[b'c' | b'C', b'e' | b'E', sign, ref rest @ ..] = name.as_bytes() else {
        return None;
    };
    if sign != mark {
        return None;
    }
    Some(match rest {
        // As everybody writes them.
        b"id" => Attribute::Id,
        b"time" => Attribute::Time,
        b"type" => Attribute::Type,
        b"source" => Attribute::Source,
        b"specversion" => Attribute::Version,
        b"partitionkey" => Attribute::Key,
        _ => {
            let is = |name: &str| name.as_bytes()[CE..].eq_ignore_ascii_case(rest);
            Attribute::ALL.into_iter().find(|(_, dash, _)| is(dash))?.0
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::topic_name;

    fn topic() -> Topic {
        topic_name("price_updated").unwrap()
    }

    fn written(event: &Event, prefix: Prefix) -> Vec<(String, String)> {
        let mut all = Vec::new();
        write(event, prefix, |name, value| {
            all.push((name.to_owned(), value.to_owned()))
        });
        all
    }

    struct Seventh;

    impl Fallback for Seventh {
        fn id(&self) -> EventId {
            EventId::parse("stream-7").unwrap()
        }

        fn time(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    fn back(prefix: Prefix, headers: &[(String, String)]) -> Event {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        read(
            prefix,
            &topic(),
            Bytes::from_static(b"x"),
            headers,
            &Seventh,
            None,
        )
    }

    #[test]
    fn an_event_survives_the_way_there_and_back() {
        for prefix in [Prefix::Dash, Prefix::Underscore] {
            let plain = Event::builder(topic()).payload("x");
            let full = Event::builder(topic())
                .payload("x")
                .key("Ключ 7")
                .source("positions")
                .content_type("application/protobuf")
                .header("tenant", " é ");
            for event in [plain.build().unwrap(), full.build().unwrap()] {
                let headers = written(&event, prefix);
                let read = back(prefix, &headers);
                assert_eq!(
                    (read.id(), read.time(), read.key()),
                    (event.id(), event.time(), event.key())
                );
                assert_eq!(
                    (read.source(), read.content_type()),
                    (event.source(), event.content_type())
                );
                assert_eq!(
                    (read.headers(), read.payload()),
                    (event.headers(), event.payload())
                );
            }
        }
    }

    #[test]
    fn the_names_are_those_of_the_bindings() {
        let event = Event::builder(topic()).key("k").build().unwrap();
        let names = |prefix| {
            written(&event, prefix)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        let plain = ["specversion", "id", "source", "type", "time", "partitionkey"];
        let with = |prefix: &str| {
            let mut all: Vec<String> = plain.iter().map(|name| format!("{prefix}{name}")).collect();
            all.push("content-type".into());
            all
        };
        assert_eq!(names(Prefix::Dash), with("ce-"));
        assert_eq!(names(Prefix::Underscore), with("ce_"));
    }

    #[test]
    fn a_message_without_or_with_a_broken_envelope_is_an_event_all_the_same() {
        let bare = back(Prefix::Dash, &[]);
        assert_eq!(
            (bare.id().to_string().as_str(), bare.time()),
            ("stream-7", Timestamp::UNIX_EPOCH)
        );
        let broken = [
            ("ce-id", ""),
            ("ce-time", "yesterday"),
            ("Nats-Rollup", "all"),
            ("ok", "1"),
            ("a b", "2"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let read = back(Prefix::Dash, &broken);
        assert_eq!((read.id(), read.time()), (bare.id(), bare.time()));
        assert_eq!(read.headers().iter().collect::<Vec<_>>(), [("ok", "1")]);
    }

    #[test]
    fn b_12_headers_over_the_limit_are_left_out() {
        let many = |name: &str, count: usize| {
            let each = |n| (format!("{name}{n}"), "x".to_owned());
            (0..count).map(each).collect::<Vec<_>>()
        };
        let users = back(Prefix::Dash, &[many("a", 100), many("cqi-", 7)].concat());
        assert_eq!(users.headers().len(), 64 + 7);
        // Without a limit each would be compared with all before it.
        for name in ["a", "cqi-", "traceparent"] {
            let flood = back(Prefix::Dash, &many(name, 100_000));
            assert!(flood.headers().len() <= 128, "{name}");
        }
    }

    #[test]
    fn b_07_a_source_or_content_type_with_line_breaks_does_not_come_in() {
        let headers = [("ce-source", "a\nb"), ("content-type", "a\r\nNats-Rollup: all")];
        let event = back(
            Prefix::Dash,
            &headers.map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(
            (event.source(), event.content_type()),
            (None, "application/octet-stream")
        );
    }

    #[test]
    fn b_07_a_key_that_breaks_the_grammar_does_not_come_in() {
        let headers = [("ce-partitionkey".to_owned(), "a\nb".to_owned())];
        assert_eq!(back(Prefix::Dash, &headers).key(), None);
    }
}
