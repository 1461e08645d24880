//! What the tests of several folders share.

use std::{
    fmt::Debug,
    sync::{Arc, LazyLock, Mutex},
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, NoSubscriber},
};

/// Collects what is logged: the level and the fields.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    target: &'static str,
    level: Level,
    lines: Arc<Mutex<Vec<(Level, String)>>>,
}

impl Logged {
    /// Of this module and what is in it, at this level or a more serious one.
    pub(crate) fn of(target: &'static str, level: Level) -> Self {
        Self {
            target,
            level,
            lines: Arc::default(),
        }
    }

    /// Collects what this thread logs until the guard is dropped.
    pub(crate) fn install(&self) -> DefaultGuard {
        // While there is one subscriber only, `tracing` asks the thread that comes first to a place of the code whether
        // anybody wants what is logged there, and keeps the answer for all threads.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
        LazyLock::force(&SECOND);
        tracing::subscriber::set_default(self.clone())
    }

    pub(crate) fn lines(&self) -> Vec<(Level, String)> {
        self.lines.lock().unwrap().clone()
    }
}

impl Subscriber for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with(self.target) && *metadata.level() <= self.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        let line = (*event.metadata().level(), line.0);
        self.lines.lock().unwrap().push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
