//! The fields of a span that is recorded.

use std::{error::Error as StdError, fmt};

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
    values: Vec<(&'static str, Value)>,
    dropped: u32,
}

impl Attributed {
    pub(super) fn with_capacity(fields: usize) -> Self {
        Self {
            values: Vec::with_capacity(fields.min(MAX_ATTRIBUTES)),
            dropped: 0,
        }
    }

    pub(super) fn into_parts(self) -> (Vec<(&'static str, Value)>, u32) {
        (self.values, self.dropped)
    }

    /// What adds fields.
    pub(super) fn gather<'a>(&'a mut self, masker: &'a Masker) -> Gather<'a> {
        Gather {
            masker,
            values: &mut self.values,
            dropped: &mut self.dropped,
        }
    }
}

/// Adds fields, without what is to be hidden.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    masker: &'a Masker,
    values: &'a mut Vec<(&'static str, Value)>,
    dropped: &'a mut u32,
}

impl Gather<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        let value = if self.masker.hides(field.name()) {
            HIDDEN.into()
        } else {
            value
        };
        if let Some((_, known)) = self.values.iter_mut().find(|(known, _)| *known == name) {
            *known = value;
        } else if self.values.len() < MAX_ATTRIBUTES {
            self.values.push((name, value));
        } else {
            *self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Takes a text that is bounded already.
    fn text(&mut self, field: &Field, text: &str) {
        let mut text = self.masker.masked(text);
        text.truncate(boundary(&text, MAX_TEXT));
        self.put(field, Value::Text(text));
    }

    fn number(&mut self, field: &Field, absolute: u64, number: Option<i64>) {
        let value = match number {
            _ if self.masker.hides_number(absolute.into()) => HIDDEN.into(),
            Some(number) => Value::Int(number),
            None => Value::Text(absolute.to_string()),
        };
        self.put(field, value);
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

impl Visit for Gather<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value.unsigned_abs(), Some(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value, i64::try_from(value).ok());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, &value[..boundary(value, MAX_LOOKED_AT)]);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.record_debug(field, &format_args!("{}", crate::log::Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // An error says that the text is full.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{value:?}"));
        self.text(field, &text.0);
    }
}

/// A text that takes no more than [`MAX_LOOKED_AT`] bytes.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = boundary(text, MAX_LOOKED_AT - self.0.len());
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
