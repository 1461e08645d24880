//! The layer that gives every span its ids.

use std::{fmt, num::NonZeroU128, sync::Arc};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::{LookupSpan, SpanRef},
};

use super::{FinishedSpan, SpanSink, SpanTrace};

/// The most attributes kept of one span.
const MAX_ATTRIBUTES: usize = 64;

/// Gives ids to spans, and hands the recorded ones over when they end.
#[derive(Debug)]
pub(crate) struct TraceLayer {
    sample_rate: f64,
    sink: Option<Arc<dyn SpanSink>>,
}

/// What a span for the sink has gathered so far.
#[derive(Debug)]
struct Recording {
    started: Timestamp,
    clock: Instant,
    attributes: Attributed,
}

impl TraceLayer {
    pub(crate) fn new(sample_rate: f64, sink: Option<Arc<dyn SpanSink>>) -> Self {
        Self { sample_rate, sink }
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
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let inherited = span
            .parent()
            .and_then(|parent| SpanTrace::of(&parent.extensions()).map(SpanTrace::child));
        let trace = inherited.unwrap_or_else(|| SpanTrace::root(|trace_id| self.samples(trace_id)));
        let mut extensions = span.extensions_mut();
        extensions.replace(trace);
        // Whether the trace is recorded may change yet, when it turns out to continue one from outside.
        if self.sink.is_some() {
            let mut attributed = Attributed::default();
            attributes.record(&mut attributed);
            extensions.replace(Recording {
                started: Timestamp::now(),
                clock: Instant::now(),
                attributes: attributed,
            });
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if self.sink.is_some()
            && let Some(span) = context.span(id)
            && let Some(recording) = span.extensions_mut().get_mut::<Recording>()
        {
            values.record(&mut recording.attributes);
        }
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
    let recording = extensions.remove::<Recording>()?;
    let trace = extensions.get_mut::<SpanTrace>().filter(|trace| trace.sampled)?;
    let metadata = span.metadata();
    Some(FinishedSpan {
        name: metadata.name(),
        target: metadata.target(),
        level: *metadata.level(),
        trace_id: trace.trace_id,
        span_id: trace.span_id,
        parent_id: trace.parent_id,
        started: recording.started,
        elapsed: recording.clock.elapsed(),
        attributes: recording.attributes.0,
    })
}

/// Fields as texts.
#[derive(Debug, Default)]
struct Attributed(Vec<(&'static str, String)>);

impl Attributed {
    fn put(&mut self, field: &Field, value: String) {
        if let Some(known) = self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            known.1 = value;
        } else if self.0.len() < MAX_ATTRIBUTES {
            self.0.push((field.name(), value));
        }
    }
}

impl Visit for Attributed {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
