//! Fields of events and spans, written as they are visited.

use std::{error::Error as StdError, fmt, mem};

use tracing::field::{Field, Visit};

use super::encode;
use crate::mask::{HIDDEN, Masker};
use cqi_core::config::LogFormat;

/// Writes fields one after another: `,"key":value` in JSON, ` key=value` in text.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) format: LogFormat,
    pub(super) masker: &'a Masker,
    /// What a value displays is gathered here, because a secret may come in several pieces.
    pub(super) scratch: &'a mut String,
    pub(super) out: &'a mut Vec<u8>,
    /// The names written, each with where its text ends.
    pub(super) written: &'a mut Vec<(&'static str, usize)>,
    /// Whether `message` is the event's message or a span's field like any other.
    pub(super) is_event: bool,
}

impl Writer<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Vec<u8>)) {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        self.key(name);
        if self.masker.hides(field.name()) {
            encode::string(self.out, HIDDEN);
        } else {
            value(self.out);
        }
        // A span's `message` is another field than the event's.
        let name = if name == "message" && !self.is_event {
            "field_message"
        } else {
            name
        };
        self.written.push((name, self.out.len()));
    }

    fn number(&mut self, field: &Field, absolute: u128, value: impl itoa::Integer) {
        if self.masker.hides_number(absolute) {
            self.field(field, |out| encode::string(out, HIDDEN));
        } else {
            self.field(field, |out| encode::integer(out, value));
        }
    }

    fn display(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let masker = self.masker;
        let mut scratch = mem::take(self.scratch);
        scratch.clear();
        // A failing Display leaves what it has written.
        let _ = fmt::Write::write_fmt(&mut scratch, value);
        if self.format == LogFormat::Text && self.is_event && field.name() == "message" {
            self.out.push(b' ');
            encode::masked(self.out, &scratch, masker);
        } else {
            self.field(field, |out| text(out, &scratch, masker));
        }
        *self.scratch = scratch;
    }

    fn key(&mut self, name: &str) {
        let clashes = is_standard(name) || (name == "message" && !self.is_event);
        let prefix = if clashes { "field_" } else { "" };
        match self.format {
            LogFormat::Json => {
                self.out.extend_from_slice(b",\"");
                self.out.extend_from_slice(prefix.as_bytes());
                encode::escaped(self.out, name);
                self.out.extend_from_slice(b"\":");
            }
            LogFormat::Text => {
                self.out.push(b' ');
                self.out.extend_from_slice(prefix.as_bytes());
                encode::escaped(self.out, name);
                self.out.push(b'=');
            }
        }
    }
}

/// Appends a text as a JSON string, without what is to be hidden.
fn text(out: &mut Vec<u8>, text: &str, masker: &Masker) {
    out.push(b'"');
    encode::masked(out, text, masker);
    out.push(b'"');
}

/// Names that every line has for itself (LOG-4, ML-LOG-8). `error` is left to the fields.
fn is_standard(name: &str) -> bool {
    matches!(
        name,
        "timestamp"
            | "level"
            | "service_name"
            | "service_version"
            | "instance"
            | "trace_id"
            | "span_id"
            | "target"
    )
}

impl Visit for Writer<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, |out| encode::float(out, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record_i128(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_u128(field, value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.number(field, value.unsigned_abs(), value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, value, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |out| {
            out.extend_from_slice(if value { b"true" } else { b"false" })
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let masker = self.masker;
        self.field(field, |out| text(out, value, masker));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.display(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.display(field, format_args!("{value:?}"));
    }
}

/// An error and its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

/// The fields of a span, formatted once, copied into every line below it (LOG-8).
#[derive(Debug, Default)]
pub(super) struct SpanFields {
    text: Vec<u8>,
    /// Each name with where its text ends.
    names: Vec<(&'static str, usize)>,
}

impl SpanFields {
    /// The fields that a writer has written.
    pub(super) fn new(text: &[u8], names: &[(&'static str, usize)]) -> Self {
        /// For what is recorded later: a status, a result.
        const ROOM: (usize, usize) = (64, 2);
        let mut fields = Self {
            text: Vec::with_capacity(text.len() + ROOM.0),
            names: Vec::with_capacity(names.len() + ROOM.1),
        };
        fields.add(text, names);
        fields
    }

    /// Takes over newer values; the names they do not mention stay.
    pub(super) fn update(&mut self, text: &[u8], names: &[(&'static str, usize)]) {
        let is_newer = |known: &str| names.iter().any(|(name, _)| *name == known);
        if self.names.iter().any(|(name, _)| is_newer(name)) {
            let mut kept = Self::default();
            for (name, field) in self.iter().filter(|(name, _)| !is_newer(name)) {
                kept.add(field, &[(name, field.len())]);
            }
            *self = kept;
        }
        self.add(text, names);
    }

    fn add(&mut self, text: &[u8], names: &[(&'static str, usize)]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        let names = names.iter().map(|(name, end)| (*name, start + end));
        self.names.extend(names);
    }

    /// Every name with its text.
    fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let mut start = 0;
        self.names.iter().map(move |(name, end)| {
            let field = &self.text[start..*end];
            start = *end;
            (*name, field)
        })
    }

    /// Copies the fields whose names are not in `written` yet.
    pub(super) fn copy(&self, out: &mut Vec<u8>, written: &mut Vec<(&'static str, usize)>) {
        let before = written.len();
        for (name, field) in self.iter() {
            if written[..before].iter().all(|(known, _)| *known != name) {
                out.extend_from_slice(field);
                written.push((name, out.len()));
            }
        }
    }
}
