//! A span per message that continues the publisher's trace (P-TRC-3).

use std::sync::Arc;

use tracing::{Instrument, Span, field::Empty, level_filters::LevelFilter};

use super::from_fn::middleware;
use crate::{
    Error, Result,
    event::{Message, Next},
    observe::Observer,
    trace::TraceContext,
};

/// Handles each message inside a span `process`, a child of the span that published it.
#[derive(Debug, Clone)]
pub struct Trace(Arc<dyn Observer>);

impl Trace {
    /// Continues traces through `observer`.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self(observer)
    }

    async fn run(self, message: Message, next: Next) -> Result<()> {
        trace(&*self.0, message, |message| next.run(message)).await
    }
}

middleware!(Trace);

/// The middleware itself, over anything that goes on with a message.
async fn trace<F>(observer: &dyn Observer, message: Message, next: impl FnOnce(Message) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let span = span(observer, &message);
    if span.is_disabled() {
        return next(message).await;
    }
    let result = next(message).instrument(span.clone()).await;
    if let Err(error) = &result {
        failed(&span, error);
    }
    result
}

/// Tells the span of a message that handling it failed.
pub(in crate::event) fn failed(span: &Span, error: &Error) {
    span.record("error.type", error.wire_code());
}

/// The span of a message. The consume loop settles inside it too, so that what becomes of an event is logged under its
/// trace.
pub(in crate::event) fn span(observer: &dyn Observer, message: &Message) -> Span {
    let headers = message.event.headers();
    let parent = headers
        .get("traceparent")
        .and_then(|parent| TraceContext::parse(parent, headers.get("tracestate")));
    observer.continue_trace(parent, &mut || {
        // Making one that nobody wants costs more than asking.
        if LevelFilter::current() < LevelFilter::INFO {
            return Span::none();
        }
        tracing::info_span!(
            "process",
            messaging.destination.name = message.event.topic().as_str(),
            messaging.consumer.group.name = message.group.as_str(),
            messaging.message.id = %message.event.id(),
            error.type = Empty,
        )
    })
}
