//! Settling what was given out.

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
    Error, Result,
    event::{Acker, Redelivery, settled},
};
use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use crate::{bus::Shared, config::MAX_TIME, error, group::Group};

/// Settles the deliveries of a batch.
pub(crate) struct NatsAcker {
    group: Arc<Group>,
    holds: Vec<Hold>,
}

/// Our hold on one delivery. The server would take a late settlement for the new owner's, so lateness is judged here.
pub(crate) struct Hold {
    reply: Subject,
    sequence: u64,
    /// How often it was released before.
    released: u32,
    /// Its size.
    bytes: usize,
    /// Until when it is ours, in nanoseconds of [`Shared::nanos`].
    until: AtomicU64,
    settled: AtomicBool,
}

impl Hold {
    pub(crate) fn new(reply: Subject, sequence: u64, released: u32, bytes: usize, until: u64) -> Self {
        Self {
            reply,
            sequence,
            released,
            bytes,
            until: AtomicU64::new(until),
            settled: AtomicBool::new(false),
        }
    }
}

impl NatsAcker {
    /// Each delivery's number is its place in `holds`. Its bytes count as unsettled until it is settled, or nobody can do that
    /// any more.
    pub(crate) fn new(group: Arc<Group>, holds: Vec<Hold>) -> Self {
        group.unsettled.add(holds.iter().map(|hold| hold.bytes).sum());
        Self { group, holds }
    }

    fn shared(&self) -> &Shared {
        &self.group.shared
    }

    fn late(&self) -> Error {
        error::late().with_context("topic", self.group.topic())
    }

    /// The hold on a delivery that is still ours.
    fn hold(&self, which: u64, now: Instant) -> Result<&Hold> {
        let at = usize::try_from(which).ok();
        at.and_then(|at| self.holds.get(at))
            .filter(|hold| {
                !hold.settled.load(Acquire) && self.shared().nanos(now) <= hold.until.load(Acquire)
            })
            .ok_or_else(|| self.late())
    }

    /// The same for who settles it. A delivery is settled once; what could not be sent may be tried again.
    fn claim(&self, which: u64) -> Result<&Hold> {
        let hold = self.hold(which, Instant::now())?;
        if hold.settled.swap(true, AcqRel) {
            return Err(self.late());
        }
        self.group.put_down(hold.bytes);
        Ok(hold)
    }

    /// What was claimed is not settled: it may be tried again.
    fn unclaim(&self, hold: &Hold) {
        self.group.unsettled.add(hold.bytes);
        hold.settled.store(false, Release);
    }

    /// Sends a settlement, of which nothing is heard again.
    async fn send(&self, hold: &Hold, how: Bytes) -> Result<()> {
        let Shared { link, options, .. } = self.shared();
        let sent = link.tell(hold.reply.clone(), None, how, options.publish_timeout);
        sent.await.inspect_err(|_| self.unclaim(hold))
    }

    /// Sends a settlement, and waits until the server has done it.
    async fn confirm(&self, hold: &Hold, how: Bytes) -> Result<()> {
        let Shared { link, options, .. } = self.shared();
        let asked = link.ask(hold.reply.clone(), None, how, options.publish_timeout);
        let gone = || link.at(error::gone("the group's consumer was deleted"));
        let confirmed = asked.await.and_then(|answer| answer.ok_or_else(gone));
        confirmed.map(drop).inspect_err(|_| self.unclaim(hold))
    }

    /// Hands back all that are still ours, in their order, and waits until the server has done that.
    pub(crate) async fn release_all(&self) {
        let mut holds = (0..self.holds.len() as u64).filter_map(|which| self.claim(which).ok());
        let mut next = holds.next();
        while let Some(hold) = next {
            next = holds.next();
            let sent = match next {
                Some(_) => self.send(hold, refused(Duration::ZERO)).await,
                // Settlements are done one after the other: with this one, all are.
                None => self.confirm(hold, refused(Duration::ZERO)).await,
            };
            if let Err(error) = sent {
                tracing::debug!(error = %error, "what could not be handed back comes back after its deadline");
                return;
            }
        }
    }
}

/// What tells the server that a delivery was refused.
fn refused(pause: Duration) -> Bytes {
    if pause.is_zero() {
        Bytes::from_static(b"-NAK")
    } else {
        Bytes::from(format!("-NAK {{\"delay\": {}}}", pause.min(MAX_TIME).as_nanos()))
    }
}

#[async_trait]
impl Acker for NatsAcker {
    fn ack<'a, 'b>(&'a self, which: u64) -> BoxFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        let confirmed = self.shared().options.confirm_acks;
        let failed = |error: Error| error.with_operation("event_bus.ack");
        let hold = match self.claim(which) {
            Ok(hold) => hold,
            Err(error) => return settled(Err(failed(error))),
        };
        // There is room nearly always: then it is sent at the call.
        let at_once = (!confirmed).then(|| self.send(hold, Bytes::new()).now_or_never());
        match at_once.flatten() {
            Some(sent) => settled(sent.map_err(failed)),
            None if confirmed => Box::pin(self.confirm(hold, Bytes::new()).map_err(failed)),
            None => Box::pin(self.send(hold, Bytes::new()).map_err(failed)),
        }
    }

    async fn nack(&self, which: u64, redelivery: Redelivery) -> Result<()> {
        let how = match redelivery {
            Redelivery::After(pause) => refused(pause),
            Redelivery::Release => {
                let hold = self.hold(which, Instant::now())?;
                self.group.note_release(hold.sequence, hold.released).await;
                refused(Duration::ZERO)
            }
        };
        let sent = async { self.send(self.claim(which)?, how).await };
        sent.await
            .map_err(|error: Error| error.with_operation("event_bus.nack"))
    }

    async fn extend(&self, which: u64) -> Result<()> {
        let now = Instant::now();
        let hold = self.hold(which, now)?;
        let Shared { link, options, .. } = self.shared();
        let progress = Bytes::from_static(b"+WPI");
        link.tell(hold.reply.clone(), None, progress, options.publish_timeout)
            .await
            .map_err(|error| error.with_operation("event_bus.extend"))?;
        hold.until.store(self.group.until(now), Release);
        Ok(())
    }
}

impl Drop for NatsAcker {
    fn drop(&mut self) {
        let unsettled = self.holds.iter().filter(|hold| !hold.settled.load(Acquire));
        self.group.put_down(unsettled.map(|hold| hold.bytes).sum());
    }
}

impl fmt::Debug for NatsAcker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsAcker")
            .field("deliveries", &self.holds.len())
            .finish_non_exhaustive()
    }
}
