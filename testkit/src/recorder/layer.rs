//! The `tracing` layer of the recorder.

use std::{collections::BTreeMap, fmt};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{LogRecord, Recorder, SpanRecord};

/// Writes events and spans into a recorder.
pub(super) struct RecordingLayer(Recorder);

/// Where a span stands in the recorder's list; kept with the span.
struct Place(usize);

impl RecordingLayer {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self(recorder)
    }

    /// Changes the record of a span.
    fn edit<S>(&self, id: &Id, context: &Context<'_, S>, change: impl FnOnce(&mut SpanRecord))
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let place = context
            .span(id)
            .and_then(|span| span.extensions().get::<Place>().map(|place| place.0));
        if let Some(place) = place
            && let Some(span) = self.0.lock().spans.get_mut(place)
        {
            change(span);
        }
    }
}

impl<S> Layer<S> for RecordingLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let record = SpanRecord {
            name: span.name(),
            level: *span.metadata().level(),
            target: span.metadata().target().to_owned(),
            fields: fields.0,
            parent: span.parent().map(|parent| parent.name()),
            closed: false,
        };
        let mut state = self.0.lock();
        span.extensions_mut().insert(Place(state.spans.len()));
        state.spans.push(record);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.edit(id, &context, |span| span.fields.extend(fields.0));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope(event);
        let record = LogRecord {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: fields.0.remove("message").unwrap_or_default(),
            fields: fields.0,
            spans: scope
                .map(|scope| scope.from_root().map(|span| span.name()).collect())
                .unwrap_or_default(),
        };
        self.0.lock().logs.push(record);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.edit(&id, &context, |span| span.closed = true);
    }
}

/// Collects fields as text: strings as they are, everything else by `Debug`.
#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
