//! The fields of a span that is recorded.

use std::{error::Error as StdError, fmt, ops::Range};

use tracing::field::{Field, Visit};

use super::AttributeValue;
use crate::mask::{HIDDEN, Masker};

/// The most attributes kept of one span.
const MAX_ATTRIBUTES: usize = 64;

/// The longest text, in bytes.
const MAX_TEXT: usize = 4096;

/// How much of a text is looked at. More than is kept, so that the cut leaves no part of a secret that is not recognised.
const MAX_LOOKED_AT: usize = 2 * MAX_TEXT;

/// The fields of a span in the order they were given; the last value of a name counts. At most 64.
///
/// However many there are, they take two allocations.
///
/// ```
/// # use cqi_telemetry::{SpanAttributes, AttributeValue};
/// let attributes: SpanAttributes = [("route", "/orders".into()), ("status", AttributeValue::Int(201))].into_iter().collect();
/// assert_eq!(attributes.get("route"), Some(AttributeValue::Text("/orders")));
/// assert_eq!(attributes.iter().count(), 2);
/// ```
#[derive(Clone, Default)]
pub struct SpanAttributes {
    values: Vec<(&'static str, Raw)>,
    /// All texts, one after another.
    texts: String,
    dropped: u32,
}

/// A value, its text elsewhere.
#[derive(Debug, Clone)]
enum Raw {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Range<usize>),
}

impl SpanAttributes {
    /// Names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, AttributeValue<'_>)> {
        self.values.iter().map(|(name, raw)| (*name, self.value(raw)))
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<AttributeValue<'_>> {
        let (_, raw) = self.values.iter().find(|(known, _)| *known == name)?;
        Some(self.value(raw))
    }

    /// How many fields there were beyond those that are kept.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    fn value(&self, raw: &Raw) -> AttributeValue<'_> {
        match raw {
            Raw::Bool(value) => AttributeValue::Bool(*value),
            Raw::Int(value) => AttributeValue::Int(*value),
            Raw::Float(value) => AttributeValue::Float(*value),
            Raw::Text(range) => AttributeValue::Text(&self.texts[range.clone()]),
        }
    }

    pub(super) fn with_capacity(fields: usize) -> Self {
        /// A method, a path, a route, an id.
        const USUAL_TEXT: usize = 24;
        let fields = fields.min(MAX_ATTRIBUTES);
        Self {
            values: Vec::with_capacity(fields),
            texts: String::with_capacity(fields * USUAL_TEXT),
            dropped: 0,
        }
    }

    /// What adds fields.
    pub(super) fn gather<'a>(&'a mut self, masker: &'a Masker) -> Gather<'a> {
        Gather { masker, into: self }
    }

    /// Takes over newer values.
    pub(super) fn update(&mut self, newer: &Self) {
        for (name, value) in newer.iter() {
            self.add(name, value);
        }
        self.dropped = self.dropped.saturating_add(newer.dropped);
    }

    /// Forgets everything, and gives room back that is more than usual.
    pub(super) fn clear(&mut self) {
        if self.texts.capacity() > MAX_TEXT {
            *self = Self::default();
        }
        self.values.clear();
        self.texts.clear();
        self.dropped = 0;
    }

    fn add(&mut self, name: &'static str, value: AttributeValue<'_>) {
        let raw = match value {
            AttributeValue::Bool(value) => Raw::Bool(value),
            AttributeValue::Int(value) => Raw::Int(value),
            AttributeValue::Float(value) => Raw::Float(value),
            AttributeValue::Text(text) => {
                let start = self.texts.len();
                self.texts.push_str(text);
                Raw::Text(start..self.texts.len())
            }
        };
        self.put(name, raw);
    }

    fn put(&mut self, name: &'static str, value: Raw) {
        if let Some(at) = self.values.iter().position(|(known, _)| *known == name) {
            let before = std::mem::replace(&mut self.values[at].1, value);
            if let Raw::Text(before) = before {
                self.forget(&before);
            }
        } else if self.values.len() < MAX_ATTRIBUTES {
            self.values.push((name, value));
        } else {
            self.dropped = self.dropped.saturating_add(1);
            if let Raw::Text(range) = value {
                self.texts.truncate(range.start);
            }
        }
    }

    /// Takes out a text that was replaced, so that a field recorded over and over does not grow the rest.
    fn forget(&mut self, gone: &Range<usize>) {
        self.texts.replace_range(gone.clone(), "");
        for (_, value) in &mut self.values {
            if let Raw::Text(range) = value
                && range.start >= gone.end
            {
                *range = range.start - gone.len()..range.end - gone.len();
            }
        }
    }
}

impl PartialEq for SpanAttributes {
    fn eq(&self, other: &Self) -> bool {
        self.dropped == other.dropped && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for SpanAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<(&'static str, AttributeValue<'a>)> for SpanAttributes {
    /// Texts are kept as they are; nothing is masked or cut.
    fn from_iter<I: IntoIterator<Item = (&'static str, AttributeValue<'a>)>>(values: I) -> Self {
        let mut attributes = Self::default();
        for (name, value) in values {
            attributes.add(name, value);
        }
        attributes
    }
}

/// Adds fields, without what is to be hidden.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    masker: &'a Masker,
    into: &'a mut SpanAttributes,
}

impl Gather<'_> {
    fn put(&mut self, field: &Field, value: Raw) {
        if self.masker.hides(field.name()) {
            self.hidden(field);
        } else {
            self.into.put(name(field), value);
        }
    }

    fn hidden(&mut self, field: &Field) {
        let start = self.into.texts.len();
        self.into.texts.push_str(HIDDEN);
        self.into
            .put(name(field), Raw::Text(start..self.into.texts.len()));
    }

    /// Adds what `write` appends to the texts.
    fn text(&mut self, field: &Field, write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result) {
        if self.masker.hides(field.name()) {
            return self.hidden(field);
        }
        let texts = &mut self.into.texts;
        let start = texts.len();
        // An error says that the text is full, or that the value cannot go on.
        let _ = write(&mut Bounded { texts, start });
        if self.masker.find(&texts[start..], 0).is_some() {
            let masked = self.masker.masked(&texts[start..]);
            texts.truncate(start);
            texts.push_str(&masked);
        }
        let length = boundary(&texts[start..], MAX_TEXT);
        texts.truncate(start + length);
        self.into.put(name(field), Raw::Text(start..start + length));
    }

    fn number(&mut self, field: &Field, absolute: u64, number: Option<i64>) {
        match number {
            _ if self.masker.hides_number(absolute.into()) => self.hidden(field),
            Some(number) => self.put(field, Raw::Int(number)),
            None => self.record_debug(field, &absolute),
        }
    }
}

fn name(field: &Field) -> &'static str {
    field.name().strip_prefix("r#").unwrap_or(field.name())
}

impl Visit for Gather<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Raw::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value.unsigned_abs(), Some(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value, i64::try_from(value).ok());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Raw::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |texts| fmt::Write::write_str(texts, value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.record_debug(field, &format_args!("{}", crate::log::Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, |texts| {
            fmt::Write::write_fmt(texts, format_args!("{value:?}"))
        });
    }
}

/// Appends no more than [`MAX_LOOKED_AT`] bytes.
struct Bounded<'a> {
    texts: &'a mut String,
    start: usize,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_LOOKED_AT - (self.texts.len() - self.start);
        let end = boundary(text, room);
        self.texts.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The end of a text that is cut after at most `most` bytes.
fn boundary(text: &str, most: usize) -> usize {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}
