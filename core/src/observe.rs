//! What happens inside core, told to whoever measures it. Core itself knows no metrics or tracing library.

use std::{fmt::Debug, time::Duration};

use tracing::Span;

use crate::{Error, trace::TraceContext};

/// One thing that happened. Labels are bounded: topics, groups and operations, never keys or ids.
#[non_exhaustive]
#[derive(Debug)]
pub enum Observation<'a> {
    /// A call of a port under a policy has ended, all attempts included.
    Called {
        /// Port and method, for example `cache.get`.
        operation: &'static str,
        /// How long it took, attempts and pauses included.
        elapsed: Duration,
        /// How many attempts were made; 0 when no time was left for one.
        attempts: u32,
        /// The error, if the call failed.
        error: Option<&'a Error>,
    },
    /// An attempt failed and another follows after `delay`.
    Retrying {
        /// Port and method.
        operation: &'static str,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// The pause before the next attempt.
        delay: Duration,
        /// Why it failed.
        error: &'a Error,
    },
    /// An event was published, or publishing it failed.
    Published {
        /// The topic's full name.
        topic: &'a str,
        /// The error, if it failed.
        error: Option<&'a Error>,
    },
    /// A handler has ended.
    Handled {
        /// The topic's full name.
        topic: &'a str,
        /// The consumer group.
        group: &'a str,
        /// How long the handler ran.
        elapsed: Duration,
        /// The error, if it failed.
        error: Option<&'a Error>,
    },
    /// An event went to its dead-letter topic.
    DeadLettered {
        /// The topic it came from.
        topic: &'a str,
        /// The consumer group that gave up.
        group: &'a str,
        /// Why.
        error: &'a Error,
    },
    /// A panic was caught (ERR-12).
    PanicRecovered {
        /// Where, for example `handler` or `http`.
        place: &'static str,
    },
    /// A request from outside was answered.
    Served {
        /// The protocol: `http` or `grpc`.
        protocol: &'static str,
        /// The HTTP method, or the full name of the gRPC method.
        method: &'a str,
        /// The route's template, never the raw path; `unmatched` when no route fits.
        route: &'a str,
        /// The HTTP status number or the gRPC code's name.
        status: &'a str,
        /// From the request's head to the response's head.
        elapsed: Duration,
        /// Bytes of the request's body, as announced; 0 when unknown.
        request_bytes: u64,
        /// Bytes of the response's body, as announced; 0 when unknown.
        response_bytes: u64,
    },
    /// The public keys of an issuer of tokens were asked for.
    KeysFetched {
        /// The issuer, as configured.
        issuer: &'a str,
        /// The error, if there are no new keys. The old ones are used for a while.
        error: Option<&'a Error>,
    },
    /// A cache lookup was answered.
    CacheLookup {
        /// Whether the value was there.
        hit: bool,
    },
}

/// Receives observations and knows the current trace. Telemetry implements it; tests record with it.
///
/// Calls come from hot paths: an implementation must be fast, must not block and must not panic.
pub trait Observer: Debug + Send + Sync + 'static {
    /// Takes note of one observation.
    fn observe(&self, observation: &Observation<'_>);

    /// The trace of the current [`tracing`] span, if there is one.
    fn current_trace(&self) -> Option<TraceContext>;

    /// Whether what happens inside the current span is recorded and sent to somebody. Only then is it worth to open
    /// spans for calls of ports. Asked for each call: it must be cheap.
    fn records_trace(&self) -> bool {
        false
    }

    /// Gives the span that `open` opens. It continues the trace `parent` if one came in from outside. `open` runs once, on
    /// this thread, and opens this one span: who records traces then knows from the start whether to keep its fields.
    fn continue_trace(&self, parent: Option<TraceContext>, open: &mut dyn FnMut() -> Span) -> Span {
        let _ = parent;
        open()
    }
}

/// An observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Observation<'_>) {}

    fn current_trace(&self) -> Option<TraceContext> {
        None
    }
}
