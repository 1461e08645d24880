//! The fields of a span that is recorded, or may be yet: kept in two allocations until it is known.

use std::{error::Error as StdError, fmt, ops::Range};

use tracing::field::{Field, Visit};

use super::Value;
use crate::mask::{HIDDEN, Masker};

/// The most attributes kept of one span.
const MAX_ATTRIBUTES: usize = 64;

/// The longest text, in bytes.
const MAX_TEXT: usize = 4096;

/// How much of a text is looked at. More than is kept, so that the cut leaves no part of a secret that is not recognised.
const MAX_LOOKED_AT: usize = 2 * MAX_TEXT;

/// The fields gathered so far.
#[derive(Debug, Default)]
pub(super) struct Attributed {
    values: Vec<(&'static str, Raw)>,
    /// All texts, one after another.
    texts: String,
    dropped: u32,
}

/// A value, its text elsewhere.
#[derive(Debug)]
enum Raw {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Range<usize>),
}

impl Attributed {
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

    /// The attributes, and how many there was no room for.
    pub(super) fn into_parts(self) -> (Vec<(&'static str, Value)>, u32) {
        let value = |raw| match raw {
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => Value::Float(value),
            Raw::Text(range) => Value::from(&self.texts[range]),
        };
        let values = self.values.into_iter().map(|(name, raw)| (name, value(raw)));
        (values.collect(), self.dropped)
    }

    /// What adds fields.
    pub(super) fn gather<'a>(&'a mut self, masker: &'a Masker) -> Gather<'a> {
        Gather { masker, into: self }
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

/// Adds fields, without what is to be hidden.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    masker: &'a Masker,
    into: &'a mut Attributed,
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
