//! Event buses that lie.

mod deliveries;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use cqi_core::{
    Code, Error, Result,
    event::{Capabilities, Deliveries, Delivery, Event, EventBus, EventId, Lease, Subscription},
    name::Group,
};
use tokio::time::Instant;

use self::deliveries::LyingDeliveries;
use super::lies;
use crate::unique;

lies! {
    /// What an event bus can lie about.
    BusLie {
        /// A refused event is treated as handled.
        LosesNacked => a_nack_redelivers_and_counts_each_attempt,
        /// An event is acknowledged as soon as it is given out.
        AcksOnDelivery => an_unsettled_event_returns_after_its_deadline,
        /// An ack is kept to itself, so the event comes back.
        ForgetsAcks => an_acked_event_never_returns,
        /// When there is no room, an event is dropped and `publish` says `Ok`.
        DropsWhenFull => a_stuck_group_pushes_back,
        /// Every member of a group gets every event.
        GivesAllToEachMember => members_of_a_group_share,
        /// A batch is published backwards.
        TurnsBatchesRound => order_holds_within_a_batch,
        /// Every delivery claims to be the first.
        DoesNotCount => a_nack_redelivers_and_counts_each_attempt,
        /// A released event has burnt an attempt.
        CountsReleases => a_released_event_returns_with_no_attempt_counted,
        /// A delayed redelivery comes at once.
        IgnoresDelays => a_delayed_nack_has_a_floor_and_a_ceiling,
        /// Extending a delivery does nothing.
        DoesNotExtend => extending_keeps_a_slow_delivery,
        /// After `close` everything goes on.
        StaysOpen => close_is_idempotent_and_final,
        /// It says it can replay, and cannot.
        ClaimsReplay => a_new_group_starts_with_the_oldest_or_says_unsupported,
        /// What `next` has taken is lost when its future is dropped.
        LosesCancelledBatches => a_cancelled_next_loses_nothing,
        /// A bad entry fails its whole batch.
        FailsWholeBatches => one_bad_entry_of_a_batch_fails_alone,
        /// A second event of one id is dropped in silence, though no dedup window is declared.
        DropsRepeatedIds => a_second_event_of_the_same_id_follows_the_dedup_window,
        /// Values of headers are trimmed.
        TrimsHeaders => weird_header_values_arrive,
        /// An oversized event is cut to size.
        CutsLargePayloads => an_oversized_event_is_refused_and_not_stored,
        /// Redelivery at once takes its time.
        TakesItsTime => a_nack_redelivers_and_counts_each_attempt,
        /// A refused event loses its key.
        ForgetsKeys => a_redelivered_event_is_unchanged,
        /// What one group refuses counts as an attempt for all.
        CountsForAllGroups => a_nack_concerns_its_own_group_only,
        /// A delay begins when the one before it is over.
        QueuesDelays => a_short_delay_does_not_wait_for_a_longer_one,
        /// A delay ends when its member leaves.
        ForgetsDelaysOfLeavers => a_delay_outlives_its_member,
        /// An acknowledgement that is dropped midway keeps its event for ever.
        KeepsDroppedAcks => a_cancelled_settlement_keeps_nothing_back,
        /// Only the first delivery of a batch is extended.
        ExtendsTheFirstOnly => extending_keeps_each_delivery_of_a_batch,
        /// What was extended once is extended for ever.
        ExtendsForEver => an_extended_delivery_returns_after_its_new_deadline,
        /// A `subscribe` that is dropped midway leaves a member that takes events.
        LeavesGhosts => a_cancelled_subscribe_leaves_no_member,
        /// A `close` that is dropped midway counts as done.
        ForgetsDroppedCloses => a_cancelled_close_can_be_repeated,
    }
}

/// Makes a liar of an honest bus.
pub fn lying_bus(inner: Arc<dyn EventBus>, lie: BusLie) -> Arc<dyn EventBus> {
    Arc::new(Liar {
        inner,
        lie,
        notes: Arc::default(),
    })
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn EventBus>,
    lie: BusLie,
    notes: Arc<Notes>,
}

/// What a liar keeps in mind, for the lies that need it.
#[derive(Debug, Default)]
struct Notes {
    seen: Mutex<HashSet<EventId>>,
    /// How often an event was refused, by whomever.
    refused: Mutex<HashMap<EventId, u32>>,
    /// When the last delay is over.
    delayed: Mutex<Option<Instant>>,
    /// Deliveries that are not let go.
    kept: Mutex<Vec<Lease>>,
    /// Members of nobody, and what they took.
    ghosts: Mutex<Vec<Box<dyn Deliveries>>>,
    taken: Mutex<Vec<Delivery>>,
    closed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Liar {
    /// What is published in place of `event`; `None` for nothing.
    fn change(&self, event: Event) -> Result<Option<Event>> {
        Ok(match self.lie {
            BusLie::DropsRepeatedIds => {
                let new = lock(&self.notes.seen).insert(event.id().clone());
                new.then_some(event)
            }
            BusLie::TrimsHeaders => {
                let headers = event.headers().clone();
                Some(headers.iter().try_fold(event, |event, (name, value)| {
                    event.with_header(name, value.trim())
                })?)
            }
            BusLie::CutsLargePayloads if event.payload().len() > self.capabilities().max_payload => {
                let payload = event.payload().slice(..self.capabilities().max_payload);
                Some(Event::builder(event.topic().clone()).payload(payload).build()?)
            }
            _ => Some(event),
        })
    }
}

#[async_trait]
impl EventBus for Liar {
    fn capabilities(&self) -> Capabilities {
        let replay = self.lie == BusLie::ClaimsReplay || self.inner.capabilities().replay;
        Capabilities {
            replay,
            ..self.inner.capabilities()
        }
    }

    async fn publish(&self, event: Event) -> Result<()> {
        let Some(event) = self.change(event)? else {
            return Ok(());
        };
        match self.inner.publish(event).await {
            Err(error) if self.lie == BusLie::DropsWhenFull && error.code() == Some(Code::Exhausted) => {
                Ok(())
            }
            result => result,
        }
    }

    async fn publish_batch(&self, mut events: Vec<Event>) -> Vec<Result<()>> {
        match self.lie {
            BusLie::TurnsBatchesRound => events.reverse(),
            BusLie::FailsWholeBatches => {
                let max = self.capabilities().max_payload;
                if let Some(bad) = events.iter().find(|event| event.payload().len() > max) {
                    let failed = self.inner.publish(bad.clone()).await;
                    return events.iter().map(|_| failed.clone()).collect();
                }
            }
            BusLie::CutsLargePayloads => {
                let changed: Result<Vec<_>> = events.iter().map(|event| self.change(event.clone())).collect();
                events = changed.into_iter().flatten().flatten().collect();
            }
            _ => {}
        }
        self.inner.publish_batch(events).await
    }

    async fn subscribe(&self, mut subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        if self.lie == BusLie::GivesAllToEachMember {
            subscription.group = Group::parse(&unique("liar"))?;
        }
        if self.lie == BusLie::ClaimsReplay {
            subscription.start_at = cqi_core::event::StartAt::New;
        }
        let mut inner = self.inner.subscribe(subscription).await?;
        if self.lie == BusLie::LeavesGhosts {
            lock(&self.notes.ghosts).push(inner);
            tokio::task::yield_now().await;
            let ours = lock(&self.notes.ghosts).pop();
            inner = ours.ok_or_else(|| Error::temporary("the member is gone"))?;
        }
        Ok(Box::new(LyingDeliveries::new(inner, self.lie, &self.notes)))
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<()> {
        match self.lie {
            BusLie::StaysOpen => return Ok(()),
            BusLie::ForgetsDroppedCloses if self.notes.closed.swap(true, SeqCst) => return Ok(()),
            BusLie::ForgetsDroppedCloses => tokio::task::yield_now().await,
            _ => {}
        }
        self.inner.close().await
    }
}
