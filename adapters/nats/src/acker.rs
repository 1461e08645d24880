//! Settling one delivery.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use async_nats::Subject;
use async_trait::async_trait;
use bytes::Bytes;
use cqi_core::{
    Result,
    event::{Acker, Redelivery},
};
use tokio::time::Instant;

use crate::{bus::Shared, error, group::Group};

/// One delivery's lease. The server would take a late settlement for the new owner's, so lateness is judged here.
pub(crate) struct NatsAcker {
    group: Arc<Group>,
    reply: Subject,
    sequence: u64,
    /// How often it was released before.
    released: u32,
    /// Until when it is ours, in nanoseconds of [`Shared::nanos`].
    until: AtomicU64,
    settled: AtomicBool,
}

impl NatsAcker {
    pub(crate) fn new(
        group: Arc<Group>,
        reply: Subject,
        sequence: u64,
        released: u32,
        since: Instant,
    ) -> Self {
        let until = AtomicU64::new(group.shared.nanos(since + group.deadline()));
        Self {
            group,
            reply,
            sequence,
            released,
            until,
            settled: AtomicBool::new(false),
        }
    }

    fn shared(&self) -> &Shared {
        &self.group.shared
    }

    fn check(&self, now: Instant) -> Result<()> {
        if self.settled.load(Acquire) || self.shared().nanos(now) > self.until.load(Acquire) {
            return Err(error::late().with_context("topic", self.group.topic()));
        }
        Ok(())
    }

    /// Sends the settlement, once. What could not be sent may be tried again.
    async fn settle(&self, how: Bytes, confirmed: bool) -> Result<()> {
        self.check(Instant::now())?;
        if self.settled.swap(true, AcqRel) {
            return Err(error::late().with_context("topic", self.group.topic()));
        }
        let (link, within) = (&self.shared().link, self.shared().options.publish_timeout);
        let reply = self.reply.clone();
        let sent = if confirmed {
            // Not in line: without it a settlement's future is small.
            match Box::pin(link.ask(reply, None, how, within)).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(link.at(error::gone("the group's consumer was deleted"))),
                Err(error) => Err(error),
            }
        } else {
            link.tell(reply, None, how, within).await
        };
        sent.inspect_err(|_| self.settled.store(false, Release))
    }
}

/// What tells the server that a delivery was refused.
fn refused(pause: Duration) -> Bytes {
    if pause.is_zero() {
        Bytes::from_static(b"-NAK")
    } else {
        Bytes::from(format!("-NAK {{\"delay\": {}}}", pause.as_nanos()))
    }
}

#[async_trait]
impl Acker for NatsAcker {
    async fn ack(&self, _: u64) -> Result<()> {
        self.settle(Bytes::new(), self.shared().options.confirm_acks)
            .await
            .map_err(|error| error.with_operation("event_bus.ack"))
    }

    async fn nack(&self, _: u64, redelivery: Redelivery) -> Result<()> {
        let how = match redelivery {
            Redelivery::After(pause) => refused(pause),
            Redelivery::Release => {
                self.check(Instant::now())?;
                self.group.note_release(self.sequence, self.released).await;
                refused(Duration::ZERO)
            }
        };
        self.settle(how, false)
            .await
            .map_err(|error| error.with_operation("event_bus.nack"))
    }

    async fn extend(&self, _: u64) -> Result<()> {
        let now = Instant::now();
        self.check(now)?;
        let within = self.shared().options.publish_timeout;
        let progress = Bytes::from_static(b"+WPI");
        self.shared()
            .link
            .tell(self.reply.clone(), None, progress, within)
            .await
            .map_err(|error| error.with_operation("event_bus.extend"))?;
        self.until
            .store(self.shared().nanos(now + self.group.deadline()), Release);
        Ok(())
    }
}

impl fmt::Debug for NatsAcker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsAcker")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}
