//! Where finished spans go.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tracing::Level;

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
    /// Its fields in the order they were given; the last of a name counts. At most 64.
    pub attributes: Vec<(&'static str, Value)>,
    /// How many fields beyond those there were.
    pub dropped_attributes: u32,
}

/// The value of a span's field.
#[allow(clippy::exhaustive_enums)] // what a field of tracing can be
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number; one beyond its range is a text.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Anything else, at most 4 KiB.
    Text(String),
}

impl Value {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one or is the text of one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
