//! Trace and span ids: every span has them, children continue their parent's trace, and what came in from outside is
//! continued as well (W3C trace context).
//!
//! Whether a trace is recorded is decided once, at its root, by the sample rate; a trace from outside keeps its
//! caller's decision. Recorded spans go to a [`SpanSink`] when they end: the exporter, which sends them to a collector by
//! OTLP, or one of the program's own.

mod attributes;
mod export;
mod layer;
pub(crate) mod outside;
mod sink;

use std::{
    num::{NonZeroU64, NonZeroU128},
    sync::Arc,
};

use cqi_core::trace::TraceContext;
use tracing::{Dispatch, span::Id};
use tracing_subscriber::registry::{Extensions, LookupSpan, Registry};

use self::layer::Traced;
pub use self::{
    attributes::SpanAttributes,
    export::ExportOptions,
    sink::{AttributeValue, FinishedSpan, SpanSink},
};
pub(crate) use self::{
    export::{Counts, Exporter},
    layer::TraceLayer,
};

/// Where a span stands.
#[derive(Debug, Clone)]
pub(crate) struct SpanTrace {
    pub(crate) trace_id: NonZeroU128,
    pub(crate) span_id: NonZeroU64,
    pub(crate) parent_id: Option<NonZeroU64>,
    pub(crate) sampled: bool,
    /// Whether somebody takes recorded spans.
    pub(crate) has_sink: bool,
    pub(crate) state: Option<Arc<str>>,
}

impl SpanTrace {
    pub(crate) fn of<'a>(extensions: &'a Extensions<'_>) -> Option<&'a Self> {
        extensions.get::<Traced>().map(|traced| &traced.trace)
    }

    fn child(&self) -> Self {
        Self {
            span_id: random_span(),
            parent_id: Some(self.span_id),
            ..self.clone()
        }
    }

    /// Continues a trace from outside.
    fn below(parent: TraceContext) -> Self {
        Self {
            trace_id: parent.trace_id,
            span_id: random_span(),
            parent_id: Some(parent.span_id),
            sampled: parent.sampled,
            has_sink: false,
            state: parent.state,
        }
    }

    fn root(sampled: impl FnOnce(NonZeroU128) -> bool) -> Self {
        let trace_id = random_trace();
        Self {
            trace_id,
            span_id: random_span(),
            parent_id: None,
            sampled: sampled(trace_id),
            has_sink: false,
            state: None,
        }
    }

    fn context(&self) -> TraceContext {
        TraceContext {
            trace_id: self.trace_id,
            span_id: self.span_id,
            sampled: self.sampled,
            state: self.state.clone(),
        }
    }
}

/// The trace of the current span, if it has one.
pub(crate) fn current() -> Option<TraceContext> {
    tracing::dispatcher::get_default(|dispatch| {
        with(dispatch, dispatch.current_span().id()?, SpanTrace::context)
    })
}

/// Whether what happens inside the current span is recorded for a sink.
pub(crate) fn is_recorded() -> bool {
    tracing::dispatcher::get_default(|dispatch| {
        let recorded = |trace: &SpanTrace| trace.sampled && trace.has_sink;
        with(dispatch, dispatch.current_span().id()?, recorded)
    })
    .unwrap_or(false)
}

fn with<T>(dispatch: &Dispatch, id: &Id, read: impl FnOnce(&SpanTrace) -> T) -> Option<T> {
    let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
    SpanTrace::of(&span.extensions()).map(read)
}

fn random_trace() -> NonZeroU128 {
    NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN)
}

fn random_span() -> NonZeroU64 {
    NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN)
}
