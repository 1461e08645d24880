//! The event bus under a policy, with trace headers, log and metrics on every publish (BUS-7).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use tracing::{Instrument as _, Span, field::Empty};

use super::{Capabilities, Deliveries, Event, EventBus, Subscription};
use crate::{
    Result,
    health::Checker,
    observe::Observation,
    policy::{Policy, Repeat},
};

/// Puts every method of a bus under a [`Policy`].
///
/// Publishing is repeated under the same event id, so a repeated event can be recognised. The trace of the current span
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
        // One attempt for the whole batch; what failed for a passing reason is then repeated one by one.
        let stamp = |event| span.in_scope(|| self.stamp(event));
        let stamped: Vec<_> = events.into_iter().map(stamp).collect();
        let good: Vec<_> = stamped.iter().flatten().cloned().collect();
        let sent = tokio::time::timeout(self.policy.deadline(), self.bus.publish_batch(good));
        let sent = sent.instrument(span.clone()).await;
        let cut_off = sent.is_err().then_some("TIMEOUT");
        let failed = sent.iter().flatten().find_map(|result| result.as_ref().err());
        if let Some(kind) = cut_off.or(failed.map(crate::Error::wire_code)) {
            span.record("error.type", kind);
        }
        drop(span);
        let mut sent = sent.unwrap_or_default().into_iter();
        join_all(stamped.into_iter().map(|event| {
            let first = event.is_ok().then(|| sent.next()).flatten();
            async move {
                match (event, first) {
                    (Ok(event), Some(Err(error))) if error.is_temporary() => self.publish(event).await,
                    (Ok(event), None) => self.publish(event).await, // the batch as a whole was cut off
                    (Ok(event), Some(result)) => {
                        self.report(event.topic().as_str(), event.payload().len(), &result);
                        result
                    }
                    (Err(error), _) => Err(error),
                }
            }
        }))
        .await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        self.policy
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
            Err(_) => Err(crate::Error::timeout(CHECK_TIMEOUT).with_operation("event_bus.ping")),
        }
    }
}
