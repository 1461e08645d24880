//! A member of a group, and the handle that settles what it was given.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::{
    task::yield_now,
    time::{Sleep, sleep},
};

use super::{
    Shared,
    group::{GroupState, Watch},
};
use crate::{
    Result,
    event::{Acker, Deliveries, Delivery, Redelivery, settled},
};

/// One member.
#[derive(Debug)]
pub(super) struct MemoryDeliveries {
    group: Arc<GroupState>,
    ack_deadline: Duration,
    acker: Arc<dyn Acker>,
    bus: Arc<Shared>,
    /// When to look again at the latest, kept between calls: setting a timer anew for each event would cost more than
    /// the event.
    look_again: Pin<Box<Sleep>>,
    /// Whether the last batch had more than one event.
    burst: bool,
}

impl MemoryDeliveries {
    pub(super) fn new(group: Arc<GroupState>, ack_deadline: Duration, bus: Arc<Shared>) -> Self {
        let acker = MemoryAcker {
            group: Arc::clone(&group),
            ack_deadline,
        };
        Self {
            group,
            ack_deadline,
            acker: Arc::new(acker),
            bus,
            look_again: Box::pin(sleep(ack_deadline)),
            burst: false,
        }
    }
}

#[async_trait]
impl Deliveries for MemoryDeliveries {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let mut watch: Option<Watch<'_>> = None;
        loop {
            if self.bus.is_closed() {
                self.group.wake(); // one wake-up may stand for several members that wait
                return None;
            }
            let (batch, look_again) = self.group.take(max.max(1), self.ack_deadline, &self.acker);
            if !batch.is_empty() {
                self.burst = batch.len() > 1;
                return Some(Ok(batch));
            }
            let watch = match &mut watch {
                Some(watch) => watch,
                none => {
                    // After a burst, a publisher that is about to run is cheaper to let run now than to be woken by.
                    if self.burst {
                        yield_now().await;
                    }
                    let watch = none.insert(self.group.watch());
                    // Publishers wake only those who wait, so what came before this one did is looked for once more.
                    if self.group.has_events() {
                        continue;
                    }
                    watch
                }
            };
            watch.on = look_again.is_some();
            let Some(at) = look_again else {
                self.group.woken().await;
                continue;
            };
            let timer = &mut self.look_again;
            if timer.deadline() != at || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            tokio::select! {
                biased;
                () = self.group.woken() => {}
                () = timer => {}
            }
        }
    }

    async fn close(&mut self) -> Result<()> {
        Ok(()) // the group and what is in flight belong to the bus; a member holds nothing of its own
    }
}

/// Settles what a member was given.
struct MemoryAcker {
    group: Arc<GroupState>,
    ack_deadline: Duration,
}

impl fmt::Debug for MemoryAcker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAcker").finish_non_exhaustive()
    }
}

#[async_trait]
impl Acker for MemoryAcker {
    fn ack<'a, 'b>(&'a self, lease: u64) -> BoxFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        settled(self.group.ack(lease))
    }

    async fn nack(&self, lease: u64, redelivery: Redelivery) -> Result<()> {
        self.group.nack(lease, redelivery)
    }

    async fn extend(&self, lease: u64) -> Result<()> {
        self.group.extend(lease, self.ack_deadline)
    }
}
