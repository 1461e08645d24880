//! The layer that gives every span its ids.

use std::{cell::Cell, num::NonZeroU128, sync::Arc};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{
    Dispatch, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::{LookupSpan, SpanRef},
};

use super::{FinishedSpan, SpanSink, SpanTrace, attributes::SpanAttributes, outside};
use crate::{home::Home, mask::Masker};

thread_local! {
    /// What is recorded is gathered here. Kept per thread, so that it allocates nothing.
    static NEWER: Cell<SpanAttributes> = Cell::default();
}

/// Gives ids to spans, and hands the recorded ones over when they end.
#[derive(Debug)]
pub(crate) struct TraceLayer {
    sample_rate: f64,
    sink: Option<Arc<dyn SpanSink>>,
    masker: Arc<Masker>,
    home: Home,
}

/// What is kept with a span.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) trace: SpanTrace,
    /// `None` where nobody takes it.
    recording: Option<Recording>,
}

/// What a span for the sink has gathered so far.
#[derive(Debug)]
struct Recording {
    started: Timestamp,
    clock: Instant,
    attributes: SpanAttributes,
}

impl Recording {
    fn start(attributes: SpanAttributes) -> Self {
        Self {
            started: Timestamp::now(),
            clock: Instant::now(),
            attributes,
        }
    }
}

impl TraceLayer {
    pub(crate) fn new(
        sample_rate: f64,
        sink: Option<Arc<dyn SpanSink>>,
        masker: Arc<Masker>,
        home: Home,
    ) -> Self {
        Self {
            sample_rate,
            sink,
            masker,
            home,
        }
    }

    /// The same answer for the same trace everywhere: the id's lower half as a share of its range.
    fn samples(&self, trace_id: NonZeroU128) -> bool {
        const RANGE: f64 = 18_446_744_073_709_551_616.0;
        let low = trace_id.get() & u128::from(u64::MAX);
        low as f64 / RANGE < self.sample_rate
    }
}

impl<S> Layer<S> for TraceLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.home.is(dispatch);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let inherited = || {
            let parent = span.parent()?;
            SpanTrace::of(&parent.extensions()).map(SpanTrace::child)
        };
        let mut trace = outside::take()
            .map(SpanTrace::below)
            .or_else(inherited)
            .unwrap_or_else(|| SpanTrace::root(|trace_id| self.samples(trace_id)));
        trace.has_sink = self.sink.is_some();
        let recording = (trace.has_sink && trace.sampled).then(|| {
            let mut attributed = SpanAttributes::with_capacity(attributes.metadata().fields().len());
            attributes.record(&mut attributed.gather(&self.masker));
            Recording::start(attributed)
        });
        span.extensions_mut().replace(Traced { trace, recording });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if self.sink.is_none() {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let recorded = |traced: &Traced| traced.recording.is_some();
        if !span.extensions().get::<Traced>().is_some_and(recorded) {
            return;
        }
        // Not into the span's own attributes, which are locked then: a value may log while it is written.
        let mut newer = NEWER.try_with(Cell::take).unwrap_or_default();
        values.record(&mut newer.gather(&self.masker));
        if let Some(Traced {
            recording: Some(recording),
            ..
        }) = span.extensions_mut().get_mut()
        {
            recording.attributes.update(&newer);
        }
        newer.clear();
        // Unless the thread ends.
        let _ = NEWER.try_with(|kept| kept.set(newer));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(sink) = &self.sink
            && let Some(span) = context.span(&id)
            && let Some(finished) = finished(&span)
        {
            sink.take(finished);
        }
    }
}

/// The span as the sink wants it; `None` when its trace is not recorded.
fn finished<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Option<FinishedSpan> {
    let mut extensions = span.extensions_mut();
    let Traced { trace, recording } = extensions.get_mut()?;
    let recording = recording.take()?;
    let metadata = span.metadata();
    Some(FinishedSpan {
        name: metadata.name(),
        target: metadata.target(),
        level: *metadata.level(),
        trace_id: trace.trace_id,
        span_id: trace.span_id,
        parent_id: trace.parent_id,
        state: trace.state.clone(),
        started: recording.started,
        elapsed: recording.clock.elapsed(),
        attributes: recording.attributes,
    })
}
