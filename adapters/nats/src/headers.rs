//! The envelope as NATS headers.
//!
//! CloudEvents' NATS binding wants values percent-encoded where HTTP would: `%`, blanks, quotes and all that is not
//! printable ASCII. A NATS header loses the blanks at its ends, and some clients take ASCII only, so the user's headers
//! are encoded too, but there inner blanks and quotes stay readable.

use std::{borrow::Cow, fmt::Write as _, str::FromStr as _};

use async_nats::{HeaderMap, HeaderName, HeaderValue, header::NATS_MESSAGE_ID};
use cqi_core::event::{
    Event,
    envelope::{self, Prefix},
    header,
};

/// The envelope's own names, which need no checking and no copy.
static KNOWN: [(&str, HeaderName); 7] = [
    ("ce-specversion", HeaderName::from_static("ce-specversion")),
    ("ce-id", HeaderName::from_static("ce-id")),
    ("ce-source", HeaderName::from_static("ce-source")),
    ("ce-type", HeaderName::from_static("ce-type")),
    ("ce-time", HeaderName::from_static("ce-time")),
    ("ce-partitionkey", HeaderName::from_static("ce-partitionkey")),
    ("content-type", HeaderName::from_static("content-type")),
];

/// The headers `event` travels with, the broker's deduplication id among them.
pub(crate) fn write(event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, deduplication_id(event));
    envelope::write(event, Prefix::Dash, |name, value| {
        let known = KNOWN.iter().find(|(known, _)| *known == name);
        let value = encode(value, name.starts_with("ce-"));
        // Names and values were checked when the event was built; what breaks NATS' rules all the same is left out.
        let name = known.map_or_else(|| HeaderName::from_str(name).ok(), |(_, name)| Some(name.clone()));
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    });
    headers
}

/// What the stream recognises a second event by. It compares over all its subjects, so the topic is part of it, or a dead
/// letter, which keeps its event's id, would be dropped; and so is the group that gave up.
fn deduplication_id(event: &Event) -> String {
    let event_type = event.topic().event_type();
    match event.headers().get(header::GROUP) {
        Some(group) => format!("{event_type}:{}:{group}", event.id()),
        None => format!("{event_type}:{}", event.id()),
    }
}

/// Every header that may mean something to an event, its value decoded.
pub(crate) fn read(headers: &HeaderMap) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    headers.iter().filter_map(|(name, values)| {
        let name: &str = name.as_ref();
        // An event has no use for these; looking at a value costs a good part of reading it.
        if matches!(name, "ce-specversion" | "ce-type") || is_own(name) {
            return None;
        }
        let value = values.last()?.as_str();
        Some((name, decode(value).unwrap_or(Cow::Borrowed(value))))
    })
}

/// Whether it is the broker's.
fn is_own(name: &str) -> bool {
    name.get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("nats-"))
}

fn encode(value: &str, strict: bool) -> Cow<'_, str> {
    let bytes = value.as_bytes();
    let plain = |at: usize, b: u8| match b {
        b'%' => false,
        b' ' => !strict && at != 0 && at + 1 != bytes.len(),
        b'"' => !strict,
        b => b.is_ascii_graphic(),
    };
    if bytes.iter().enumerate().all(|(at, b)| plain(at, *b)) {
        return Cow::Borrowed(value);
    }
    let mut encoded = String::with_capacity(bytes.len() * 3);
    for (at, b) in bytes.iter().enumerate() {
        if plain(at, *b) {
            encoded.push(char::from(*b));
        } else {
            let _ = write!(encoded, "%{b:02X}"); // writing to a String does not fail
        }
    }
    Cow::Owned(encoded)
}

/// Undoes percent-encoding. What is no escape stays as it is; `None` if the outcome is no UTF-8.
pub(crate) fn decode(value: &str) -> Option<Cow<'_, str>> {
    // Values are short: no branch on the way is quicker than a search that stops.
    if !value.bytes().fold(false, |found, b| found | (b == b'%')) {
        return Some(Cow::Borrowed(value));
    }
    let mut rest = value.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let byte = digits
            .filter(|_| *first == b'%')
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use cqi_core::name::topic_name;

    use super::*;

    #[test]
    fn values_survive_and_plain_ones_stay_readable() {
        for (value, loose, strict) in [
            ("plain", "plain", "plain"),
            ("a b", "a b", "a%20b"),
            (" a ", "%20a%20", "%20a%20"),
            ("\"q\"", "\"q\"", "%22q%22"),
            ("50%", "50%25", "50%25"),
            ("é", "%C3%A9", "%C3%A9"),
            ("", "", ""),
            (" ", "%20", "%20"),
        ] {
            assert_eq!(encode(value, false), loose);
            assert_eq!(encode(value, true), strict);
            assert_eq!(decode(loose).unwrap(), value);
            assert_eq!(decode(strict).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_escape_is_left_alone() {
        for odd in ["50%", "%", "%zz", "%+1", "100%é"] {
            assert_eq!(decode(odd).unwrap(), odd);
        }
        assert_eq!(decode("%FF"), None);
    }

    #[test]
    fn nothing_panics_on_line_breaks() {
        let event = Event::builder(topic_name("a").unwrap()).content_type("a\r\nNats-Rollup: all");
        let headers = write(&event.build().unwrap());
        assert_eq!(
            headers.get("content-type").unwrap().as_str(),
            "a%0D%0ANats-Rollup: all"
        );
    }
}
