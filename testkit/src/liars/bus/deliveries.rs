//! Deliveries that lie.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{
    Result,
    event::{Acker, Deliveries, Delivery, Event, EventId, Lease, Redelivery},
};
use futures::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{BusLie, Notes, lock};

const AT_ONCE: Redelivery = Redelivery::After(Duration::ZERO);
/// How often what is kept is extended.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct LyingDeliveries {
    inner: Box<dyn Deliveries>,
    lie: BusLie,
    notes: Arc<Notes>,
}

impl LyingDeliveries {
    pub(super) fn new(inner: Box<dyn Deliveries>, lie: BusLie, notes: &Arc<Notes>) -> Self {
        Self {
            inner,
            lie,
            notes: Arc::clone(notes),
        }
    }

    /// What the honest `next` gives. Meanwhile what is kept stays kept.
    async fn honest(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        loop {
            for ghost in lock(&self.notes.ghosts).iter_mut() {
                if let Some(Some(Ok(batch))) = ghost.next(max).now_or_never() {
                    lock(&self.notes.taken).extend(batch);
                }
            }
            if let Ok(batch) = timeout(TICK, self.inner.next(max)).await {
                return batch;
            }
            let kept = lock(&self.notes.kept).clone();
            for lease in kept {
                // One that is settled is no longer ours.
                let _ = lease.extend().await;
            }
        }
    }
}

#[async_trait]
impl Deliveries for LyingDeliveries {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let batch = match self.honest(max).await? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        if self.lie == BusLie::LosesCancelledBatches {
            sleep(Duration::from_millis(2)).await;
        }
        let mut told = Vec::with_capacity(batch.len());
        for (at, delivery) in batch.into_iter().enumerate() {
            match tell(self.lie, &self.notes, at, delivery).await {
                Ok(delivery) => told.push(delivery),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(told))
    }

    async fn close(&mut self) -> Result<()> {
        if self.lie == BusLie::ForgetsDelaysOfLeavers {
            let kept = std::mem::take(&mut *lock(&self.notes.kept));
            for lease in kept {
                lease.nack(AT_ONCE).await?;
            }
        }
        self.inner.close().await
    }
}

/// What is said in place of a delivery, the `at`-th of its batch.
async fn tell(lie: BusLie, notes: &Arc<Notes>, at: usize, delivery: Delivery) -> Result<Delivery> {
    let (mut event, mut attempt, inner) = delivery.into_parts();
    match lie {
        BusLie::AcksOnDelivery => inner.ack().await?,
        BusLie::DoesNotCount => attempt = 1,
        BusLie::CountsForAllGroups => {
            let refused = lock(&notes.refused).get(event.id()).copied();
            attempt = attempt.max(refused.unwrap_or(0) + 1);
        }
        BusLie::ForgetsKeys if attempt > 1 => {
            let keyless = Event::builder(event.topic().clone()).id(event.id().clone());
            event = keyless.payload(event.payload().clone()).build()?;
        }
        _ => {}
    }
    let acker = Arc::new(LyingAcker {
        inner,
        lie,
        notes: Arc::clone(notes),
        id: event.id().clone(),
        at,
    });
    Ok(Delivery::new(event, attempt, Lease::new(acker, 0)))
}

#[derive(Debug)]
struct LyingAcker {
    inner: Lease,
    lie: BusLie,
    notes: Arc<Notes>,
    id: EventId,
    at: usize,
}

#[async_trait]
impl Acker for LyingAcker {
    async fn ack(&self, _: u64) -> Result<()> {
        match self.lie {
            BusLie::AcksOnDelivery | BusLie::ForgetsAcks => return Ok(()),
            BusLie::KeepsDroppedAcks => {
                lock(&self.notes.kept).push(self.inner.clone());
                tokio::task::yield_now().await;
            }
            _ => {}
        }
        self.inner.ack().await
    }

    async fn nack(&self, _: u64, redelivery: Redelivery) -> Result<()> {
        match self.lie {
            BusLie::AcksOnDelivery => return Ok(()),
            BusLie::LosesNacked => return self.inner.ack().await,
            _ => {}
        }
        let pause = match redelivery {
            Redelivery::After(pause) => pause,
            Redelivery::Release if self.lie == BusLie::CountsReleases => Duration::ZERO,
            Redelivery::Release => return self.inner.nack(redelivery).await,
        };
        *lock(&self.notes.refused).entry(self.id.clone()).or_default() += 1;
        let pause = match self.lie {
            BusLie::ForgetsDelaysOfLeavers if !pause.is_zero() => {
                lock(&self.notes.kept).push(self.inner.clone());
                return Ok(());
            }
            BusLie::IgnoresDelays => Duration::ZERO,
            BusLie::TakesItsTime => pause.max(Duration::from_secs(10)),
            BusLie::QueuesDelays => {
                let mut delayed = lock(&self.notes.delayed);
                let now = Instant::now();
                let over = delayed.unwrap_or(now).max(now) + pause;
                *delayed = Some(over);
                over - now
            }
            _ => pause,
        };
        self.inner.nack(Redelivery::After(pause)).await
    }

    async fn extend(&self, _: u64) -> Result<()> {
        match self.lie {
            BusLie::DoesNotExtend => return Ok(()),
            BusLie::ExtendsTheFirstOnly if self.at > 0 => return Ok(()),
            BusLie::ExtendsForEver => lock(&self.notes.kept).push(self.inner.clone()),
            _ => {}
        }
        self.inner.extend().await
    }
}
