//! Event buses that lie.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{
    Code, Result,
    event::{
        Acker, Capabilities, Deliveries, Delivery, Event, EventBus, EventId, Lease, Redelivery, Subscription,
    },
    name::Group,
};

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
    }
}

/// Makes a liar of an honest bus.
pub fn lying_bus(inner: Arc<dyn EventBus>, lie: BusLie) -> Arc<dyn EventBus> {
    Arc::new(Liar {
        inner,
        lie,
        seen: Mutex::default(),
    })
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn EventBus>,
    lie: BusLie,
    seen: Mutex<HashSet<EventId>>,
}

impl Liar {
    /// What is published in place of `event`; `None` for nothing.
    fn change(&self, event: Event) -> Result<Option<Event>> {
        Ok(match self.lie {
            BusLie::DropsRepeatedIds => {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.insert(event.id().clone()).then_some(event)
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
        let inner = self.inner.subscribe(subscription).await?;
        Ok(Box::new(LyingDeliveries { inner, lie: self.lie }))
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<()> {
        if self.lie == BusLie::StaysOpen {
            Ok(())
        } else {
            self.inner.close().await
        }
    }
}

#[derive(Debug)]
struct LyingDeliveries {
    inner: Box<dyn Deliveries>,
    lie: BusLie,
}

#[async_trait]
impl Deliveries for LyingDeliveries {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let batch = match self.inner.next(max).await? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        if self.lie == BusLie::LosesCancelledBatches {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut told = Vec::with_capacity(batch.len());
        for delivery in batch {
            let (event, attempt, inner) = delivery.into_parts();
            if self.lie == BusLie::AcksOnDelivery
                && let Err(error) = inner.ack().await
            {
                return Some(Err(error));
            }
            let attempt = if self.lie == BusLie::DoesNotCount {
                1
            } else {
                attempt
            };
            let acker = Arc::new(LyingAcker { inner, lie: self.lie });
            told.push(Delivery::new(event, attempt, Lease::new(acker, 0)));
        }
        Some(Ok(told))
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct LyingAcker {
    inner: Lease,
    lie: BusLie,
}

#[async_trait]
impl Acker for LyingAcker {
    async fn ack(&self, _: u64) -> Result<()> {
        match self.lie {
            BusLie::AcksOnDelivery | BusLie::ForgetsAcks => Ok(()),
            _ => self.inner.ack().await,
        }
    }

    async fn nack(&self, _: u64, redelivery: Redelivery) -> Result<()> {
        let at_once = Redelivery::After(Duration::ZERO);
        match self.lie {
            BusLie::AcksOnDelivery => Ok(()),
            BusLie::LosesNacked => self.inner.ack().await,
            BusLie::CountsReleases if redelivery == Redelivery::Release => self.inner.nack(at_once).await,
            BusLie::IgnoresDelays if redelivery != Redelivery::Release => self.inner.nack(at_once).await,
            _ => self.inner.nack(redelivery).await,
        }
    }

    async fn extend(&self, _: u64) -> Result<()> {
        if self.lie == BusLie::DoesNotExtend {
            Ok(())
        } else {
            self.inner.extend().await
        }
    }
}
