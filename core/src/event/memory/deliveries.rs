//! A member of a group, and the handle that settles what it was given.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::group::GroupState;
use crate::{
    Result,
    event::{Acker, Deliveries, Delivery, Redelivery},
};

/// One member.
#[derive(Debug)]
pub(super) struct MemoryDeliveries {
    group: Arc<GroupState>,
    ack_deadline: Duration,
    closed: CancellationToken,
}

impl MemoryDeliveries {
    pub(super) fn new(group: Arc<GroupState>, ack_deadline: Duration, closed: CancellationToken) -> Self {
        Self {
            group,
            ack_deadline,
            closed,
        }
    }
}

#[async_trait]
impl Deliveries for MemoryDeliveries {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        loop {
            if self.closed.is_cancelled() {
                return None;
            }
            let (batch, look_again) = GroupState::take(&self.group, max.max(1), self.ack_deadline);
            if !batch.is_empty() {
                return Some(Ok(batch));
            }
            let timer = async {
                match look_again {
                    Some(at) => sleep_until(at.max(Instant::now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.group.woken() => {}
                () = timer => {}
                () = self.closed.cancelled() => return None,
            }
        }
    }

    async fn close(&mut self) -> Result<()> {
        Ok(()) // the group and what is in flight belong to the bus; a member holds nothing of its own
    }
}

/// Settles one lease.
pub(super) struct MemoryAcker {
    group: Arc<GroupState>,
    slot: usize,
    number: u64,
    ack_deadline: Duration,
}

impl MemoryAcker {
    pub(super) fn new(group: &Arc<GroupState>, slot: usize, number: u64, ack_deadline: Duration) -> Self {
        Self {
            group: Arc::clone(group),
            slot,
            number,
            ack_deadline,
        }
    }
}

impl fmt::Debug for MemoryAcker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAcker")
            .field("lease", &self.number)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Acker for MemoryAcker {
    async fn ack(&self) -> Result<()> {
        self.group.ack(self.slot, self.number)
    }

    async fn nack(&self, redelivery: Redelivery) -> Result<()> {
        self.group.nack(self.slot, self.number, redelivery)
    }

    async fn extend(&self) -> Result<()> {
        self.group.extend(self.slot, self.number, self.ack_deadline)
    }
}
