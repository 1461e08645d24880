//! Recording what a service tells about itself.

mod layer;
mod observed;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use cqi_core::{
    observe::{Observation, Observer},
    trace::TraceContext,
};
use tracing::{
    Dispatch, Level, Span,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::layer::SubscriberExt;

use self::layer::RecordingLayer;
pub use self::observed::Observed;

/// While there is one subscriber only, `tracing` asks the thread that comes first to a place of the code whether anybody wants
/// what is logged there, and keeps the answer for all threads. This is a second one, for ever.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// Records observations, log events and spans. Clones share what was recorded.
///
/// ```
/// use cqi_testkit::recorder::Recorder;
///
/// let recorder = Recorder::default();
/// let installed = recorder.install();
/// tracing::info_span!("request", route = "/assets").in_scope(|| {
///     tracing::warn!(key = "BTC", "asset is stale");
/// });
/// drop(installed);
///
/// assert!(recorder.contains("asset is stale"));
/// let logs = recorder.logs();
/// assert_eq!(logs[0].fields["key"], "BTC");
/// assert_eq!(logs[0].spans, ["request"]);
/// assert_eq!(recorder.spans()[0].fields["route"], "/assets");
/// ```
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    observed: Vec<Observed>,
    logs: Vec<LogRecord>,
    spans: Vec<SpanRecord>,
    trace: Option<TraceContext>,
    continued: Vec<TraceContext>,
}

/// A recorded log event.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// How grave it is.
    pub level: Level,
    /// The module it comes from.
    pub target: String,
    /// The message.
    pub message: String,
    /// All other fields.
    pub fields: BTreeMap<String, String>,
    /// The names of the spans it stands in, the outermost first.
    pub spans: Vec<&'static str>,
}

/// A recorded span.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct SpanRecord {
    /// The name.
    pub name: &'static str,
    /// How grave it is.
    pub level: Level,
    /// The module it comes from.
    pub target: String,
    /// All fields, those recorded later included.
    pub fields: BTreeMap<String, String>,
    /// The name of the span around it.
    pub parent: Option<&'static str>,
    /// Whether it has ended.
    pub closed: bool,
}

impl Recorder {
    /// Records the logs and spans of this thread until the guard is dropped. With a current-thread runtime, as in
    /// `#[tokio::test]`, that is the whole test.
    #[must_use = "recording ends when the guard is dropped"]
    pub fn install(&self) -> DefaultGuard {
        LazyLock::force(&SECOND);
        tracing::subscriber::set_default(
            tracing_subscriber::registry().with(RecordingLayer::new(self.clone())),
        )
    }

    /// All observations, in order.
    pub fn observations(&self) -> Vec<Observed> {
        self.lock().observed.clone()
    }

    /// The observations of one name, for example `handled`; see [`Observed::name`].
    pub fn observed(&self, name: &str) -> Vec<Observed> {
        let state = self.lock();
        state
            .observed
            .iter()
            .filter(|seen| seen.name == name)
            .cloned()
            .collect()
    }

    /// All log events, in order.
    pub fn logs(&self) -> Vec<LogRecord> {
        self.lock().logs.clone()
    }

    /// All spans, in the order they began.
    pub fn spans(&self) -> Vec<SpanRecord> {
        self.lock().spans.clone()
    }

    /// Whether any message or field of a log event or span, or any observation, has this text in it. Made for secrets:
    /// what it does not find was not told.
    pub fn contains(&self, text: &str) -> bool {
        let state = self.lock();
        let among = |fields: &BTreeMap<String, String>| fields.values().any(|value| value.contains(text));
        state
            .logs
            .iter()
            .any(|log| log.message.contains(text) || among(&log.fields))
            || state.spans.iter().any(|span| among(&span.fields))
            || state.observed.iter().any(|seen| seen.contains(text))
    }

    /// Sets what [`Observer::current_trace`] answers.
    pub fn set_trace(&self, trace: Option<TraceContext>) {
        self.lock().trace = trace;
    }

    /// The traces from outside that were continued, in order.
    pub fn continued_traces(&self) -> Vec<TraceContext> {
        self.lock().continued.clone()
    }

    /// Forgets everything recorded so far.
    pub fn clear(&self) {
        let mut state = self.lock();
        let trace = state.trace.take();
        *state = State {
            trace,
            ..State::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Recorder")
            .field("observed", &state.observed.len())
            .field("logs", &state.logs.len())
            .field("spans", &state.spans.len())
            .finish()
    }
}

impl Observer for Recorder {
    fn observe(&self, observation: &Observation<'_>) {
        let observed = Observed::new(observation);
        self.lock().observed.push(observed);
    }

    fn current_trace(&self) -> Option<TraceContext> {
        self.lock().trace.clone()
    }

    fn continue_trace(&self, parent: Option<TraceContext>, open: &mut dyn FnMut() -> Span) -> Span {
        self.lock().continued.extend(parent);
        open()
    }
}
