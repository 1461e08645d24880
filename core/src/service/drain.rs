//! The shutdown sequence, under one deadline.

use tokio::time::{Duration, Instant, sleep};

use super::{
    ServiceHandle,
    hooks::{self, Hooks, LAST_CALL},
};
use crate::{Error, policy::later};

/// Waits for `delay`, stops the services in reverse order of their start, then runs the hooks. Gives what went wrong.
pub(super) async fn drain(
    running: &mut [ServiceHandle],
    registered: Hooks,
    delay: Duration,
    limit: Duration,
) -> Vec<Error> {
    let deadline = later(Instant::now(), limit);
    tracing::info!(?limit, "stop: draining");
    sleep(delay).await;
    let mut failed = Vec::new();
    // One that has ended before is why the app stops, or was reported as that.
    for service in running.iter_mut().rev().filter(|service| !service.has_ended()) {
        tracing::info!(component = service.name(), "stop: service");
        let result = service.stop_until(deadline.max(Instant::now() + LAST_CALL)).await;
        failed.extend(result.err());
    }
    failed.extend(hooks::run_all(registered, deadline).await);
    failed
}
