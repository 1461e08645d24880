//! The start-up sequence (ML-CORE-16).

use std::{future::poll_fn, task::Poll};

use super::{ServiceHandle, app::Plan, dependency::check_all};
use crate::{Error, Result};

/// Checks the plan and the dependencies, then starts service after service. What was started is in `running`, also
/// after an error and when the future is dropped, the service that was just starting included.
pub(super) async fn start(plan: &mut Plan, running: &mut Vec<ServiceHandle>) -> Result<()> {
    let metadata = &plan.metadata;
    tracing::info!(
        service = metadata.name,
        version = metadata.version,
        environment = metadata.environment,
        "start: configuration"
    );
    plan.check()?;
    tracing::info!(count = plan.dependencies.len(), "start: dependencies");
    check_all(std::mem::take(&mut plan.dependencies)).await?;
    for service in std::mem::take(&mut plan.services) {
        tracing::info!(component = service.name(), "start: service");
        running.push(ServiceHandle::spawn(service));
        let Some((newest, before)) = running.split_last_mut() else {
            continue;
        };
        tokio::select! {
            biased;
            error = first_end(before) => return Err(error),
            ready = newest.wait_ready(plan.start_timeout) => ready?,
        }
    }
    Ok(())
}

/// Waits until one of the services ends, which none should. Cancel-safe.
pub(super) async fn first_end(running: &mut [ServiceHandle]) -> Error {
    poll_fn(|context| {
        for service in running.iter_mut() {
            if let Poll::Ready(result) = service.poll_ended(context) {
                return Poll::Ready(result.err().unwrap_or_else(|| {
                    Error::permanent(format!("service {} ended without being asked to", service.name()))
                }));
            }
        }
        Poll::Pending
    })
    .await
}
