//! A limit on how long a handler may take.

use std::time::Duration;

use super::from_fn::middleware;
use crate::{
    Error, Result,
    event::{Message, Next},
};

/// Ends a handler that takes longer than the limit; its event is redelivered. The handler's future is dropped, so it must
/// be cancel-safe.
#[derive(Debug, Clone, Copy)]
pub struct Timeout(Duration);

impl Timeout {
    /// A limit per message and attempt.
    pub fn new(limit: Duration) -> Self {
        Self(limit)
    }

    async fn run(self, message: Message, next: Next) -> Result<()> {
        tokio::time::timeout(self.0, next.run(message))
            .await
            .unwrap_or_else(|_| Err(Error::timeout(self.0).with_operation("event_bus.handle")))
    }
}

middleware!(Timeout);
