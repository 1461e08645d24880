//! One log line per handled message (BUS-11).

use tokio::time::Instant;

use super::from_fn::middleware;
use crate::{
    Result,
    event::{Message, Next},
};

/// Logs each message with topic, size, attempt and duration: `debug` when handled, `warn` when not.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs)] // it has nothing to configure
pub struct Log;

middleware!(Log);

impl Log {
    async fn run(self, message: Message, next: Next) -> Result<()> {
        log(message, |message| next.run(message)).await
    }
}

/// The middleware itself, over anything that goes on with a message.
pub(in crate::event) async fn log<F>(message: Message, next: impl FnOnce(Message) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    if !tracing::enabled!(tracing::Level::WARN) {
        return next(message).await;
    }
    let (event, attempt, started) = (message.event.clone(), message.attempt, Instant::now());
    let result = next(message).await;
    let duration_ms = started.elapsed().as_secs_f64() * 1e3;
    let (topic, bytes) = (event.topic().as_str(), event.payload().len());
    match &result {
        Ok(()) => tracing::debug!(topic, bytes, attempt, duration_ms, "event handled"),
        Err(error) => {
            tracing::warn!(topic, bytes, attempt, duration_ms, error = %error.chain(), "event not handled")
        }
    }
    result
}
