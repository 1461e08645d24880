//! What calls that a handler makes inherit from the call it serves.

use std::{future::Future, time::Duration};

use http::HeaderValue;
use tokio::time::Instant;

use crate::RequestId;

/// The call that is being served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// When its client stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Its `authorization`, if it was accepted; marked as sensitive.
    pub(crate) credential: Option<HeaderValue>,
    /// Its id.
    pub(crate) id: Option<RequestId>,
}

tokio::task_local! {
    static CURRENT: Scope;
}

impl Scope {
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs a part of the call in its scope.
    pub(crate) fn run<T>(&self, part: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), part)
    }

    /// Runs the call in its scope.
    pub(crate) fn enter<F: Future>(self, call: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, call)
    }
}

/// How long the client of the call that is being served still waits. `None` when it did not say, and outside of a call,
/// which includes tasks that the handler has spawned. Until the response has begun the server's `request_timeout` counts
/// too.
pub fn remaining_time() -> Option<Duration> {
    let deadline = Scope::current()?.deadline?;
    Some(deadline.saturating_duration_since(Instant::now()))
}
