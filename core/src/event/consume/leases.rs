//! Keeping what was fetched ours until it is settled.

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::Shared;
use crate::{
    Code,
    event::{Lease, lock},
};

impl Shared {
    /// Extends the leases in place of a heartbeat that does not get to it: all threads were busy, or the process did not run.
    pub(super) async fn catch_up(&self) {
        let overdue = lock(&self.kept_at).elapsed() > self.beat * 2;
        if overdue {
            self.extend_all().await;
        }
    }

    /// Keeps the leases of everything held alive. What has waited past its lease is others' by now, and is not run here.
    pub(super) async fn extend_all(&self) {
        *lock(&self.kept_at) = Instant::now();
        let leases = lock(&self.feed).leases();
        let extend = async |lease: Lease| lease.extend().await.err().map(|error| (lease, error));
        let extended = timeout(self.beat, join_all(leases.into_iter().map(extend))).await;
        let topic = &self.consumer.subscription.topic;
        let mut lost = Vec::new();
        for (lease, error) in extended.into_iter().flatten().flatten() {
            // For what runs, that is the ordinary race with its settlement.
            if error.code() == Some(Code::FailedPrecondition) {
                lost.push(lease);
            } else {
                tracing::warn!(%topic, error = %error.chain(), "lease not extended");
            }
        }
        let late = match lost.is_empty() {
            true => return,
            false => lock(&self.feed).take(&lost),
        };
        if !late.is_empty() {
            tracing::warn!(%topic, count = late.len(), "events that waited past their ack deadline are left to others");
        }
    }
}
