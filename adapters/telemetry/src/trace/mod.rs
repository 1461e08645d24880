//! Trace and span ids: every span has them, children continue their parent's trace, and what came in from outside is
//! continued as well (W3C trace context).
//!
//! Whether a trace is recorded is decided once, at its root, by the sample rate; a trace from outside keeps its
//! caller's decision. Recorded spans go to a [`SpanSink`] when they end.

mod layer;
mod sink;

use std::{
    num::{NonZeroU64, NonZeroU128},
    sync::Arc,
};

use cqi_core::trace::TraceContext;
use tracing::{Dispatch, Span, span::Id};
use tracing_subscriber::registry::{Extensions, LookupSpan, Registry};

pub(crate) use self::layer::TraceLayer;
pub use self::sink::{FinishedSpan, SpanSink};

/// Where a span stands; kept with the span.
#[derive(Debug, Clone)]
pub(crate) struct SpanTrace {
    pub(crate) trace_id: NonZeroU128,
    pub(crate) span_id: NonZeroU64,
    pub(crate) parent_id: Option<NonZeroU64>,
    pub(crate) sampled: bool,
    pub(crate) state: Option<Arc<str>>,
}

impl SpanTrace {
    pub(crate) fn of<'a>(extensions: &'a Extensions<'_>) -> Option<&'a Self> {
        extensions.get::<Self>()
    }

    fn child(&self) -> Self {
        Self {
            span_id: random_span(),
            parent_id: Some(self.span_id),
            ..self.clone()
        }
    }

    fn root(sampled: impl FnOnce(NonZeroU128) -> bool) -> Self {
        let trace_id = random_trace();
        Self {
            trace_id,
            span_id: random_span(),
            parent_id: None,
            sampled: sampled(trace_id),
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

/// Makes `span` a child of `parent`. Spans opened below it before keep their trace.
pub(crate) fn continue_trace(span: &Span, parent: TraceContext) {
    span.with_subscriber(|(id, dispatch)| {
        if let Some(span) = dispatch
            .downcast_ref::<Registry>()
            .and_then(|registry| registry.span(id))
            && let Some(trace) = span.extensions_mut().get_mut::<SpanTrace>()
        {
            trace.trace_id = parent.trace_id;
            trace.parent_id = Some(parent.span_id);
            trace.sampled = parent.sampled;
            trace.state = parent.state;
        }
    });
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
