//! The fields of a span that is recorded.

use std::{error::Error as StdError, fmt};

use tracing::field::{Field, Visit};

use super::Value;

/// The most attributes kept of one span.
const MAX_ATTRIBUTES: usize = 64;

/// The longest text, in bytes.
const MAX_TEXT: usize = 4096;

/// Gathers fields.
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

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        if let Some((_, known)) = self.values.iter_mut().find(|(known, _)| *known == name) {
            *known = value;
        } else if self.values.len() < MAX_ATTRIBUTES {
            self.values.push((name, value));
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn text(&mut self, field: &Field, text: String) {
        self.put(field, Value::Text(text));
    }
}

impl Visit for Attributed {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int);
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut end = value.len().min(MAX_TEXT);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.text(field, value[..end].to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.record_debug(field, &format_args!("{}", crate::log::Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // An error says that the text is full.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{value:?}"));
        self.text(field, text.0);
    }
}

/// A text that takes no more than [`MAX_TEXT`] bytes.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_TEXT - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let mut end = room;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}
