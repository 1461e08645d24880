//! Where finished spans go.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tracing::Level;

use super::attributes::SpanAttributes;

/// Takes the recorded spans that have ended: an exporter, or a test's recorder.
pub trait SpanSink: fmt::Debug + Send + Sync + 'static {
    /// Takes one span. Called where the span ends, often on a hot path: it must not block, must bound what it keeps,
    /// and must not open spans of its own.
    fn take(&self, span: FinishedSpan);
}

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct FinishedSpan {
    /// The span's name.
    pub name: &'static str,
    /// The part of the program, a module path.
    pub target: &'static str,
    /// The span's level.
    pub level: Level,
    /// The trace it belongs to.
    pub trace_id: NonZeroU128,
    /// Its own id.
    pub span_id: NonZeroU64,
    /// The span above it, here or on the caller's side.
    pub parent_id: Option<NonZeroU64>,
    /// The W3C `tracestate` that came in from outside, if one did.
    pub state: Option<Arc<str>>,
    /// When it was opened.
    pub started: Timestamp,
    /// How long it was open.
    pub elapsed: Duration,
    /// Its fields.
    pub attributes: SpanAttributes,
}

/// The value of a span's field.
#[allow(clippy::exhaustive_enums)] // what a field of tracing can be
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttributeValue<'a> {
    /// Yes or no.
    Bool(bool),
    /// A whole number; one beyond its range is a text.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Anything else, at most 4 KiB.
    Text(&'a str),
}

impl<'a> AttributeValue<'a> {
    /// The text, if it is one.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one or is the text of one.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl<'a> From<&'a str> for AttributeValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}
