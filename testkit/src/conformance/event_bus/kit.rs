//! What the cases of this suite are written with.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use cqi_core::{
    event::{Deliveries, Delivery, Event, EventBus, Subscription},
    name::{Group, Topic},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::EventBusHarness;
use crate::conformance::{Failure, Outcome, Profile};

/// A bus, a topic and a group of their own, and the profile: what nearly every case starts with.
pub(super) struct Scene {
    pub(super) bus: Arc<dyn EventBus>,
    pub(super) topic: Topic,
    pub(super) group: Group,
    pub(super) profile: Profile,
}

impl Scene {
    pub(super) async fn new<H: EventBusHarness>(h: &H) -> Result<Self, Failure> {
        Ok(Self {
            bus: h.connect().await?,
            topic: h.topic().await?,
            group: h.group()?,
            profile: h.profile(),
        })
    }

    /// A subscription whose ack deadline no case reaches by accident.
    pub(super) fn subscription(&self) -> Subscription {
        self.subscription_of(&self.group)
    }

    pub(super) fn subscription_of(&self, group: &Group) -> Subscription {
        Subscription::new(self.topic.clone(), group.clone()).with_ack_deadline(self.profile.step * 30)
    }

    /// A subscription whose ack deadline is one step.
    pub(super) fn short_subscription(&self) -> Subscription {
        self.subscription().with_ack_deadline(self.profile.step)
    }

    pub(super) async fn join(&self) -> Result<Reader, Failure> {
        self.join_as(self.subscription()).await
    }

    pub(super) async fn join_as(&self, subscription: Subscription) -> Result<Reader, Failure> {
        self.join_on(&self.bus, subscription).await
    }

    pub(super) async fn join_on(
        &self,
        bus: &Arc<dyn EventBus>,
        subscription: Subscription,
    ) -> Result<Reader, Failure> {
        Ok(Reader {
            deliveries: bus.subscribe(subscription).await?,
            profile: self.profile,
        })
    }

    /// An event whose payload is its number.
    pub(super) fn event(&self, number: usize) -> Result<Event, Failure> {
        numbered(&self.topic, None, number)
    }

    pub(super) fn keyed(&self, key: &str, number: usize) -> Result<Event, Failure> {
        numbered(&self.topic, Some(key), number)
    }

    pub(super) async fn publish(&self, numbers: impl IntoIterator<Item = usize>) -> Outcome {
        for number in numbers {
            self.bus.publish(self.event(number)?).await?;
        }
        Ok(())
    }
}

/// An event whose payload and one header are its number.
pub(super) fn numbered(topic: &Topic, key: Option<&str>, number: usize) -> Result<Event, Failure> {
    let mut builder = Event::builder(topic.clone())
        .payload(number.to_string())
        .header("number", &number.to_string());
    if let Some(key) = key {
        builder = builder.key(key);
    }
    Ok(builder.build()?)
}

/// The number of an event; payload and header must agree.
pub(super) fn number(event: &Event) -> Result<usize, Failure> {
    let text = std::str::from_utf8(event.payload()).unwrap_or_default();
    if event.headers().get("number") != Some(text) {
        return Err(Failure::new(format!(
            "payload {text:?} and header {:?} of one event differ",
            event.headers().get("number")
        )));
    }
    text.parse()
        .map_err(|_| Failure::new(format!("payload {text:?} is not a number")))
}

/// A member of a group.
pub(super) struct Reader {
    pub(super) deliveries: Box<dyn Deliveries>,
    profile: Profile,
}

impl Reader {
    /// What `next` gives within `limit`; nothing if it gives nothing. A temporary error is followed by another call.
    pub(super) async fn some(&mut self, max: usize, limit: Duration) -> Result<Vec<Delivery>, Failure> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match timeout(left, self.deliveries.next(max)).await {
                Err(_) => return Ok(Vec::new()),
                Ok(None) => return Err(Failure::new("the subscription ended early")),
                Ok(Some(Ok(batch))) if batch.is_empty() => {
                    return Err(Failure::new("next gave an empty batch"));
                }
                Ok(Some(Ok(batch))) if batch.len() > max => {
                    return Err(Failure::new(format!(
                        "next({max}) gave {} deliveries",
                        batch.len()
                    )));
                }
                Ok(Some(Ok(batch))) => return Ok(batch),
                Ok(Some(Err(error))) if error.is_temporary() => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(Some(Err(error))) => return Err(error.into()),
            }
        }
    }

    /// Exactly `count` deliveries, unsettled.
    pub(super) async fn take(&mut self, count: usize) -> Result<Vec<Delivery>, Failure> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let more = self.some(count - taken.len(), self.profile.limit).await?;
            if more.is_empty() {
                return Err(Failure::new(format!(
                    "{} of {count} deliveries came within {:?}: {:?}",
                    taken.len(),
                    self.profile.limit,
                    summary(&taken)
                )));
            }
            taken.extend(more);
        }
        Ok(taken)
    }

    /// One delivery, unsettled.
    pub(super) async fn one(&mut self) -> Result<Delivery, Failure> {
        self.take(1)
            .await?
            .pop()
            .ok_or_else(|| Failure::new("no delivery"))
    }

    /// One delivery, which must have this number and attempt.
    pub(super) async fn expect(&mut self, wanted: usize, attempt: u32) -> Result<Delivery, Failure> {
        let delivery = self.one().await?;
        let seen = (number(delivery.event())?, delivery.attempt());
        if seen != (wanted, attempt) {
            return Err(Failure::new(format!(
                "got event and attempt {seen:?}, expected {:?}",
                (wanted, attempt)
            )));
        }
        Ok(delivery)
    }

    /// Acknowledges what comes until each of these numbers was seen, in any order. Returns how often each came.
    pub(super) async fn read_all(
        &mut self,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Result<HashMap<usize, usize>, Failure> {
        let mut missing: HashSet<usize> = numbers.into_iter().collect();
        let mut seen = HashMap::new();
        while !missing.is_empty() {
            let batch = self.some(100, self.profile.limit).await?;
            if batch.is_empty() {
                let mut missing: Vec<_> = missing.into_iter().collect();
                missing.sort_unstable();
                let shown = &missing[..missing.len().min(10)];
                return Err(Failure::new(format!(
                    "{} events are missing, among them {shown:?}",
                    missing.len()
                )));
            }
            for delivery in batch {
                let number = number(delivery.event())?;
                missing.remove(&number);
                *seen.entry(number).or_default() += 1;
                delivery.ack().await?;
            }
        }
        Ok(seen)
    }

    /// Fails if anything comes within the quiet time.
    pub(super) async fn nothing(&mut self, why: &str) -> Outcome {
        self.nothing_within(self.profile.quiet, why).await
    }

    pub(super) async fn nothing_within(&mut self, time: Duration, why: &str) -> Outcome {
        let came = self.some(100, time).await?;
        if came.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("{why}: got {:?}", summary(&came))))
        }
    }
}

/// Lets members read until `seen` is `wanted`, and for the quiet time after that, in which what comes too often comes; then
/// stops them. Fails if a member does, or if nobody tells of more for the limit.
pub(super) async fn until(
    members: &mut JoinSet<Outcome>,
    mut seen: watch::Receiver<usize>,
    wanted: usize,
    profile: Profile,
) -> Outcome {
    loop {
        let now = *seen.borrow_and_update();
        let enough = now >= wanted;
        let limit = if enough { profile.quiet } else { profile.limit };
        tokio::select! {
            Some(ended) = members.join_next() => ended??,
            changed = timeout(limit, seen.changed()) => match changed {
                Ok(Ok(())) => {}
                _ if enough => {
                    members.shutdown().await;
                    return Ok(());
                }
                _ => return Err(Failure::new(format!("{now} of {wanted} came, then nothing for {limit:?}"))),
            }
        }
    }
}

/// Number and attempt of each delivery, for messages.
fn summary(deliveries: &[Delivery]) -> Vec<(String, u32)> {
    deliveries
        .iter()
        .map(|d| {
            (
                String::from_utf8_lossy(d.event().payload()).into_owned(),
                d.attempt(),
            )
        })
        .collect()
}

/// Fails, with the ratio, if more events came twice than the harness allows.
pub(super) fn within_duplicate_bound<H: EventBusHarness>(h: &H, seen: &HashMap<usize, usize>) -> Outcome {
    let total: usize = seen.values().sum();
    let ratio = ratio(total - seen.len(), seen.len());
    if ratio > h.duplicate_bound() {
        return Err(Failure::new(format!(
            "{ratio:.4} duplicates per event, the declared bound is {}",
            h.duplicate_bound()
        )));
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // counts of a test
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// `length` bytes that are no text and no repetition of a short pattern.
pub(super) fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
