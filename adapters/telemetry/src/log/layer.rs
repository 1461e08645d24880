//! The layer that turns events into lines.

use std::{cell::RefCell, sync::Arc};

use cqi_core::config::LogFormat;
use jiff::Timestamp;
use tracing::{
    Event, Level, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

use super::{
    Output, encode,
    fields::{SpanFields, Writer},
    time::timestamp,
};
use crate::{ServiceIdentity, mask::Masker, trace::SpanTrace};

/// A buffer that grew beyond this is given back.
const KEPT: usize = 64 << 10;

/// What a line is built in. Kept per thread, so that a line allocates nothing.
#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    written: Vec<(&'static str, usize)>,
    scratch: String,
}

thread_local! {
    static LINE: RefCell<Line> = const {
        RefCell::new(Line { text: Vec::new(), written: Vec::new(), scratch: String::new() })
    };
}

/// Writes one line per event.
#[derive(Debug)]
pub(crate) struct LogLayer {
    format: LogFormat,
    output: Arc<Output>,
    masker: Arc<Masker>,
    /// The service's fields, formatted once.
    service: Vec<u8>,
}

impl LogLayer {
    pub(crate) fn new(
        format: LogFormat,
        output: Arc<Output>,
        masker: Arc<Masker>,
        service: &ServiceIdentity,
    ) -> Self {
        let fields = [
            ("service_name", &service.name),
            ("service_version", &service.version),
            ("instance", &service.instance),
        ];
        let mut text = Vec::new();
        for (name, value) in fields {
            if format == LogFormat::Json && !value.is_empty() {
                text.extend_from_slice(format!(",\"{name}\":").as_bytes());
                encode::string(&mut text, value);
            }
        }
        Self {
            format,
            output,
            masker,
            service: text,
        }
    }

    fn write<S>(&self, line: &mut Line, event: &Event<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Line {
            text,
            written,
            scratch,
        } = line;
        self.begin(text, *event.metadata().level());
        let innermost = context.event_span(event);
        if self.format == LogFormat::Json {
            text.extend_from_slice(&self.service);
            if let Some(span) = &innermost
                && let Some(trace) = SpanTrace::of(&span.extensions())
            {
                text.extend_from_slice(b",\"trace_id\":\"");
                encode::hex(text, trace.trace_id.get().to_be_bytes());
                text.extend_from_slice(b"\",\"span_id\":\"");
                encode::hex(text, trace.span_id.get().to_be_bytes());
                text.push(b'"');
            }
            text.extend_from_slice(b",\"target\":");
            encode::string(text, event.metadata().target());
        } else {
            encode::escaped(text, event.metadata().target());
            text.push(b':');
        }
        event.record(&mut Writer {
            format: self.format,
            masker: &self.masker,
            scratch,
            out: text,
            written,
            is_event: true,
        });
        for span in innermost
            .iter()
            .flat_map(tracing_subscriber::registry::SpanRef::scope)
        {
            if let Some(fields) = span.extensions().get::<SpanFields>() {
                fields.copy(text, written);
            }
        }
        text.extend_from_slice(if self.format == LogFormat::Json {
            b"}\n"
        } else {
            b"\n"
        });
        self.output.write(text);
    }

    /// What writes the fields of a span.
    fn span_writer<'a>(&'a self, line: &'a mut Line) -> Writer<'a> {
        Writer {
            format: self.format,
            masker: &self.masker,
            scratch: &mut line.scratch,
            out: &mut line.text,
            written: &mut line.written,
            is_event: false,
        }
    }

    fn begin(&self, text: &mut Vec<u8>, level: Level) {
        let now = Timestamp::now();
        if self.format == LogFormat::Json {
            text.extend_from_slice(b"{\"timestamp\":\"");
            timestamp(text, now);
            text.extend_from_slice(b"\",\"level\":\"");
            text.extend_from_slice(name(level).trim_ascii_end());
            text.push(b'"');
        } else {
            timestamp(text, now);
            text.push(b' ');
            text.extend_from_slice(name(level));
            text.push(b' ');
        }
    }
}

/// Runs `work` with a line to build in.
fn with_line(work: impl FnOnce(&mut Line)) {
    LINE.with(|line| match line.try_borrow_mut() {
        Ok(mut line) => {
            line.text.clear();
            line.written.clear();
            work(&mut line);
            if line.text.capacity() + line.scratch.capacity() > KEPT {
                *line = Line::default();
            }
        }
        // A value that logs while it is being logged.
        Err(_) => work(&mut Line::default()),
    });
}

/// The level's name, blanks after it up to five characters.
fn name(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"error",
        Level::WARN => b"warn ",
        Level::INFO => b"info ",
        Level::DEBUG => b"debug",
        Level::TRACE => b"trace",
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.values().is_empty() {
            return;
        }
        let Some(span) = context.span(id) else { return };
        with_line(|line| {
            attributes.record(&mut self.span_writer(line));
            if !line.written.is_empty() {
                let fields = SpanFields::new(&line.text, &line.written);
                span.extensions_mut().replace(fields);
            }
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        with_line(|line| {
            // Not into the span's own fields, which are locked then: a value may log while it is written.
            values.record(&mut self.span_writer(line));
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<SpanFields>() {
                Some(fields) => fields.update(&line.text, &line.written),
                None => drop(extensions.replace(SpanFields::new(&line.text, &line.written))),
            }
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        with_line(|line| self.write(line, event, &context));
    }
}
