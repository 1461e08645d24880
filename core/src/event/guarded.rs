//! The event bus under a policy, with trace headers, log and metrics on every publish (BUS-7).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tracing::{Span, field::Empty};

use super::{Capabilities, Deliveries, Event, EventBus, Subscription, lock};
use crate::{
    Error, Result,
    health::Checker,
    observe::Observation,
    policy::{Policy, Repeat},
};

/// How long joining a group may take at least: less than a service has to become ready by default, so that the error tells
/// which topic it was.
const JOIN_TIMEOUT: Duration = Duration::from_secs(28);

/// Puts every method of a bus under a [`Policy`], but for `close`, which has its own limit. Joining a group may take up to
/// 28 s also where the policy's deadline, which is meant for publishing, is shorter: a broker may wait for other members.
///
/// Publishing is repeated under the same event id, so a repeated event can be recognised. Of a batch is repeated what
/// failed for a passing reason, in its order. The trace of the current span
/// travels in `traceparent` and `tracestate`; when it is recorded, publishing has a span of its own, from which whoever
/// handles the event continues.
#[derive(Debug, Clone)]
pub struct GuardedBus {
    bus: Arc<dyn EventBus>,
    policy: Policy,
    source: Option<Arc<str>>,
}

impl GuardedBus {
    /// Guards `bus`.
    pub fn new(bus: Arc<dyn EventBus>, policy: Policy) -> Self {
        Self {
            bus,
            policy,
            source: None,
        }
    }

    /// Stamps events that name no source with this one: the service's name.
    pub fn with_source(mut self, source: impl Into<Arc<str>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what the envelope needs and the caller need not know: source and trace.
    fn stamp(&self, mut event: Event) -> Result<Event> {
        if let (None, Some(source)) = (event.source(), &self.source) {
            event = event.with_source(Arc::clone(source));
        }
        let Some(trace) = self.policy.observer().current_trace() else {
            return Ok(event);
        };
        event = event.with_protocol_header("traceparent", &trace.traceparent())?;
        match &trace.state {
            Some(state) => event.with_protocol_header("tracestate", state),
            None => Ok(event),
        }
    }

    fn report(&self, topic: &str, bytes: usize, result: &Result<()>) {
        let error = result.as_ref().err();
        match error {
            None => tracing::debug!(topic, bytes, "published"),
            Some(error) => tracing::warn!(topic, bytes, error = %error.chain(), "publishing failed"),
        }
        self.policy
            .observer()
            .observe(&Observation::Published { topic, error });
    }
}

/// An event of a batch, and what is known of it.
struct Entry {
    event: Event,
    /// The last answer; `None` while an attempt is under way.
    answer: Option<Result<()>>,
    /// Whether the next attempt publishes it.
    open: bool,
    /// Whether an attempt may have stored it.
    may_have_applied: bool,
}

impl Entry {
    fn new(event: &Event) -> Self {
        Self {
            event: event.clone(),
            answer: None,
            open: true,
            may_have_applied: false,
        }
    }

    /// The event, if it is to be published.
    fn begin(&mut self) -> Option<Event> {
        self.open.then(|| {
            self.answer = None;
            self.event.clone()
        })
    }

    fn end(&mut self, answer: Result<()>, policy: &Policy) {
        let answer = answer.map_err(|error| {
            self.may_have_applied |= error.may_have_applied();
            match self.may_have_applied {
                true => error.maybe_applied(),
                false => error,
            }
        });
        self.open = answer.as_ref().is_err_and(|error| policy.repeats(error));
        self.answer = Some(answer);
    }

    fn error(&self) -> Option<&Error> {
        self.answer.as_ref()?.as_ref().err()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl EventBus for GuardedBus {
    fn capabilities(&self) -> Capabilities {
        self.bus.capabilities()
    }

    async fn publish(&self, event: Event) -> Result<()> {
        let (topic, bytes) = (event.topic().clone(), event.payload().len());
        let span = if self.policy.records_trace() {
            tracing::info_span!(
                "event_bus.publish",
                messaging.destination.name = topic.as_str(),
                messaging.message.id = %event.id(),
                messaging.message.body.size = bytes,
                error.type = Empty,
            )
        } else {
            Span::none()
        };
        let result = match span.in_scope(|| self.stamp(event)) {
            Ok(event) => {
                let publish = || self.bus.publish(event.clone());
                self.policy
                    .call_in(span, "event_bus.publish", Repeat::Safe, publish)
                    .await
            }
            Err(error) => Err(error),
        };
        self.report(topic.as_str(), bytes, &result);
        result
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        let span = if self.policy.records_trace() {
            tracing::info_span!(
                "event_bus.publish_batch",
                messaging.batch.message_count = events.len(),
                error.type = Empty,
            )
        } else {
            Span::none()
        };
        let stamp = |event| span.in_scope(|| self.stamp(event));
        let stamped: Vec<_> = events.into_iter().map(stamp).collect();
        let entries: Mutex<Vec<_>> = Mutex::new(stamped.iter().flatten().map(Entry::new).collect());
        // Each attempt publishes, in their order, the events that have no last answer yet.
        let attempt = || async {
            let open = lock(&entries).iter_mut().filter_map(Entry::begin).collect();
            let sent = self.bus.publish_batch(open).await;
            let mut entries = lock(&entries);
            let open = entries.iter_mut().filter(|entry| entry.open);
            for (entry, answer) in open.zip(sent) {
                entry.end(answer, &self.policy);
            }
            let repeated = entries.iter().filter(|entry| entry.open);
            let failed = repeated.chain(&*entries).find_map(Entry::error);
            failed.cloned().map_or(Ok(()), Err)
        };
        let called = self
            .policy
            .call_in(span.clone(), "event_bus.publish_batch", Repeat::Safe, attempt)
            .await;
        // What has no answer was on its way when the deadline passed.
        let unknown = called
            .err()
            .unwrap_or_else(|| Error::temporary("the bus gave no answer").maybe_applied());
        let entries = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut answers = entries.into_iter().map(|entry| entry.answer);
        let finish = |event: Result<Event>| {
            let event = event?;
            let result = answers.next().flatten().unwrap_or_else(|| Err(unknown.clone()));
            self.report(event.topic().as_str(), event.payload().len(), &result);
            result
        };
        stamped.into_iter().map(finish).collect()
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        self.policy
            .at_least(JOIN_TIMEOUT)
            .call("event_bus.subscribe", Repeat::Safe, || {
                self.bus.subscribe(subscription.clone())
            })
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.policy
            .call("event_bus.ping", Repeat::Safe, || self.bus.ping())
            .await
    }

    async fn close(&self) -> Result<()> {
        self.bus.close().await
    }
}

/// How long the broker has to answer a health check (BUS-16, BUS-20).
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks that the broker answers. Its name is `event_bus`.
#[derive(Debug, Clone)]
pub struct BusChecker(Arc<dyn EventBus>);

impl BusChecker {
    /// Checks `bus`.
    pub fn new(bus: Arc<dyn EventBus>) -> Self {
        Self(bus)
    }
}

#[async_trait]
impl Checker for BusChecker {
    fn name(&self) -> &str {
        "event_bus"
    }

    async fn check(&self) -> Result<()> {
        match tokio::time::timeout(CHECK_TIMEOUT, self.0.ping()).await {
            Ok(result) => result,
            Err(_) => Err(Error::timeout(CHECK_TIMEOUT).with_operation("event_bus.ping")),
        }
    }
}

#[cfg(test)]
mod tests;
