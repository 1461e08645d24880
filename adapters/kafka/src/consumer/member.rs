//! A subscription's end of a membership, and the handle that settles what it was given.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    event::{Acker, Deliveries, Delivery, Redelivery, settled},
};
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    group::{Group, Phase, State},
    partition::Claim,
};
use crate::client::lock;

/// How long the last member waits for the client to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    group: Arc<Group>,
    ack_deadline: Duration,
    left: bool,
}

impl Member {
    /// Takes a place that was entered.
    pub(crate) fn new(group: Arc<Group>, ack_deadline: Duration) -> Self {
        Self {
            group,
            ack_deadline,
            left: false,
        }
    }

    /// Waits until the group exists.
    ///
    /// # Errors
    /// What keeps it from existing: `Unauthorized` at once, all else after `limit`; `Temporary`/`Timeout` if nothing is
    /// known.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<()> {
        let mut phase = self.group.phase.subscribe();
        let until = Instant::now() + limit;
        let error = loop {
            match *phase.borrow_and_update() {
                Phase::Starting => {}
                Phase::Ready => return Ok(()),
                Phase::Leaving | Phase::Left => break Error::closed("event bus"),
            }
            if let Some(refusal) = self.group.refusal() {
                break refusal;
            }
            // The sender lives in the group, so that only the limit ends it without a change.
            if timeout_at(until, phase.changed()).await.is_err() {
                break Error::timeout(limit).with_context("what", "the group's positions are not known");
            }
        };
        let said = match error.is_unauthorized() {
            true => None,
            false => lock(&self.group.state).error.take(),
        };
        Err(said
            .unwrap_or(error)
            .with_operation("event_bus.subscribe")
            .with_context("topic", &self.group.topic)
            .with_context("group", &self.group.id))
    }

    /// Takes what is ready in the ledger, up to `max`.
    fn fill(&self, state: &mut State, max: usize, now: Instant) -> Vec<Delivery> {
        let ready = state.ledger.ready().min(max);
        if ready == 0 {
            return Vec::new();
        }
        let (mut events, mut claims) = (Vec::with_capacity(ready), Vec::with_capacity(ready));
        while events.len() < max
            && let Some((event, attempt, claim)) = state.ledger.take(now, self.ack_deadline)
        {
            events.push((event, attempt));
            claims.push((claim, AtomicBool::new(false)));
        }
        let acker: Arc<dyn Acker> = Arc::new(KafkaAcker {
            group: Arc::clone(&self.group),
            claims,
            ack_deadline: self.ack_deadline,
        });
        Delivery::batch(&acker, events)
    }

    /// What is ready now, up to `max`; `None` when the bus is closed. `waiting` of those who wait are this member.
    fn take(&self, max: usize, waiting: usize) -> Option<Result<Vec<Delivery>>> {
        let now = Instant::now();
        let mut state = lock(&self.group.state);
        if state.closed {
            return None;
        }
        state.asked = now;
        state.patience = self.ack_deadline;
        let aside = state.aside;
        let due = state.ledger.due();
        let mut batch = self.fill(&mut state, max, now);
        let mut more = false;
        if batch.is_empty() {
            drop(state);
            let fetched = self.group.fetch(max);
            state = lock(&self.group.state);
            if fetched.any {
                batch = self.fill(&mut state, max, now);
            }
            more = fetched.more;
        }
        let error = if batch.is_empty() {
            state.error.take()
        } else {
            None
        };
        more |= state.ledger.has_ready() || batch.len() >= max;
        let earlier = due.is_none() && state.ledger.due().is_some();
        let idle = batch.is_empty() && !state.idle && state.ledger.held() == 0 && state.ledger.is_dirty();
        state.idle |= idle;
        drop(state);
        if more && self.group.waiting.load(SeqCst) > waiting {
            self.group.tell_member(); // another member may take the rest
        }
        if earlier || aside || idle {
            self.group.tell_driver(); // it watches over the deadline, takes part again, and commits
        }
        Some(error.map_or(Ok(batch), Err))
    }
}

#[async_trait]
impl Deliveries for Member {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        if self.left {
            return None;
        }
        let max = max.max(1);
        let is_empty = |taken: &Option<Result<Vec<_>>>| matches!(taken, Some(Ok(batch)) if batch.is_empty());
        // Who finds something need not be ready to be woken.
        let taken = self.take(max, 0);
        if !is_empty(&taken) {
            return taken;
        }
        let _waiting = Waiting::new(&self.group);
        loop {
            let woken = self.group.wake().notified();
            let mut woken = std::pin::pin!(woken);
            woken.as_mut().enable(); // before looking, so that nothing in between is missed
            let taken = self.take(max, 1);
            if !is_empty(&taken) {
                return taken;
            }
            woken.await;
        }
    }

    async fn close(&mut self) -> Result<()> {
        if self.left {
            return Ok(());
        }
        self.left = true;
        self.group.leave();
        if !self.group.ends_now() {
            return Ok(()); // others go on, or the membership lasts until what is out is settled
        }
        match timeout(LEAVE_TIMEOUT, self.group.left()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::timeout(LEAVE_TIMEOUT)
                .with_operation("event_bus.leave")
                .with_context("group", &self.group.id)),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.left {
            self.group.leave();
        }
    }
}

/// Says that somebody asks, while it lives.
struct Waiting<'a>(&'a Group);

impl<'a> Waiting<'a> {
    fn new(group: &'a Group) -> Self {
        group.waiting.fetch_add(1, SeqCst);
        Self(group)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// Settles the deliveries of a batch.
struct KafkaAcker {
    group: Arc<Group>,
    /// What was given out, and whether somebody settled it.
    claims: Vec<(Claim, AtomicBool)>,
    ack_deadline: Duration,
}

impl KafkaAcker {
    /// A number that was not given out is nobody's any more.
    fn claim(&self, which: u64) -> Result<&(Claim, AtomicBool)> {
        let at = usize::try_from(which).ok();
        at.and_then(|at| self.claims.get(at))
            .ok_or_else(|| self.group.lost())
    }
}

impl fmt::Debug for KafkaAcker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaAcker")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Acker for KafkaAcker {
    fn ack<'a, 'b>(&'a self, which: u64) -> BoxFuture<'b, Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        settled(self.claim(which).and_then(|(claim, settled)| {
            settled.store(true, Relaxed);
            self.group.ack(*claim)
        }))
    }

    async fn nack(&self, which: u64, redelivery: Redelivery) -> Result<()> {
        let (claim, settled) = self.claim(which)?;
        settled.store(true, Relaxed);
        self.group.nack(*claim, redelivery)
    }

    async fn extend(&self, which: u64) -> Result<()> {
        self.group.extend(self.claim(which)?.0, self.ack_deadline)
    }
}

impl Drop for KafkaAcker {
    fn drop(&mut self) {
        for (claim, settled) in &self.claims {
            if !settled.load(Relaxed) {
                self.group.abandon(*claim);
            }
        }
    }
}
