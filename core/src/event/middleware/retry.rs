//! Repeating a handler in place, before the event goes back to the broker (BUS-10).

use crate::{
    Result,
    event::{Message, Next, middleware::from_fn::middleware},
    policy::{Retry, run},
};

/// Repeats a handler that failed for a passing reason, inside one delivery.
///
/// These attempts multiply with the subscription's own ([`ConsumeOptions::retry`](crate::event::ConsumeOptions)), which
/// outlive the process and do not keep a worker busy. Use this layer for pauses of milliseconds only.
#[derive(Debug, Clone)]
pub struct InPlaceRetry(Retry);

impl InPlaceRetry {
    /// Repeats as `retry` says.
    pub fn new(retry: Retry) -> Self {
        Self(retry)
    }

    async fn run(self, message: Message, next: Next) -> Result<()> {
        run(&self.0, || next.run(message.clone())).await
    }
}

middleware!(InPlaceRetry);
