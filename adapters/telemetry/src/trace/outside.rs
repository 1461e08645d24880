//! The trace from outside that a span continues, known before the span is opened: what is not recorded keeps no field.

use std::cell::Cell;

use cqi_core::trace::TraceContext;
use tracing::Span;

thread_local! {
    /// For the next span on this thread.
    static PARENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// What `open` opens, below `parent`.
pub(crate) fn continued(parent: Option<TraceContext>, open: &mut dyn FnMut() -> Span) -> Span {
    if parent.is_none() {
        return open();
    }
    let _ = PARENT.try_with(|given| given.set(parent));
    let _leftover = Leftover;
    open()
}

/// The parent of the span that is being opened, if it is one from outside.
pub(super) fn take() -> Option<TraceContext> {
    // A span may be opened while the thread ends.
    PARENT.try_with(Cell::take).ok().flatten()
}

/// A span that is disabled takes no parent; the next one must not have it.
struct Leftover;

impl Drop for Leftover {
    fn drop(&mut self) {
        drop(take());
    }
}
