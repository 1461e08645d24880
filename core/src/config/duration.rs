//! Durations as text with units, `5s`, `500ms` or `1m30s`, for `#[serde(with = "cqi_core::config::duration")]` (CFG-18).

use std::{fmt, time::Duration};

use jiff::fmt::friendly::{Designator, SpanParser, SpanPrinter};
use serde::{Deserializer, Serializer, de};

static PARSER: SpanParser = SpanParser::new();
static PRINTER: SpanPrinter = SpanPrinter::new().designator(Designator::Compact);

/// Reads a text such as `1m30s`. Units: `h`, `m`, `s`, `ms`, `us`, `ns`, and their usual longer names.
///
/// # Errors
/// What is expected, when the text is no such duration.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    PARSER.parse_unsigned_duration(text).map_err(|_| EXPECTED)
}

/// Writes a duration so that [`parse`] reads it.
pub fn format(duration: &Duration) -> String {
    PRINTER.unsigned_duration_to_string(duration)
}

/// Serialises as text.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format(duration))
}

/// Deserialises from text.
///
/// # Errors
/// The deserializer's, or that the text is no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

const EXPECTED: &str = "a duration with a unit, such as `5s`, `500ms` or `1m30s`";

struct Text;

impl de::Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(|expected| E::invalid_value(de::Unexpected::Str(text), &expected))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cfg_18_durations_have_units() {
        for (text, millis) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("0s", 0),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "-5s", "5 parsecs", "s", "1e3s", "99999999999999999999s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(seconds in 0u64..1 << 40, nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse(&format(&duration)), Ok(duration));
        }
    }
}
