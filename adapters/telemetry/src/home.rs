//! The subscriber that telemetry is part of.

use std::sync::{Arc, OnceLock};

use tracing::dispatcher::{self, Dispatch, WeakDispatch};

/// Knows the subscriber once it is in use. Telemetry's own threads, which have none, log to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Home(Arc<OnceLock<WeakDispatch>>);

impl Home {
    /// Weak, because the subscriber owns what holds this.
    pub(crate) fn is(&self, dispatch: &Dispatch) {
        let _ = self.0.set(dispatch.downgrade());
    }

    /// Runs `work` with that subscriber; not at all where there is none yet or no more.
    pub(crate) fn run(&self, work: impl FnOnce()) {
        if let Some(dispatch) = self.0.get().and_then(WeakDispatch::upgrade) {
            dispatcher::with_default(&dispatch, work);
        }
    }
}
