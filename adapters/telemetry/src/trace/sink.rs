//! Where finished spans go.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
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
    /// When it was opened.
    pub started: Timestamp,
    /// How long it was open.
    pub elapsed: Duration,
    /// Its fields as texts, in the order they were given; the last of a name counts. At most 64.
    pub attributes: Vec<(&'static str, String)>,
}
