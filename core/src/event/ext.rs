//! Typed publishing.

use async_trait::async_trait;

use super::{DomainEvent, Event, EventBus, Payload};
use crate::{
    Result,
    name::{Topic, topic_name},
};

/// Typed convenience over any [`EventBus`].
#[async_trait]
pub trait EventBusExt {
    /// Encodes `event`, publishes it to the topic of its type under its key, and waits for the acknowledgement.
    /// Returns what was published.
    ///
    /// # Errors
    /// As [`EventBus::publish`], and `InvalidInput` when type or key break their grammar.
    async fn emit<E: DomainEvent>(&self, event: &E) -> Result<Event>;

    /// Encodes `message` and publishes it to `topic` (BUS-1, BUS-2). Returns what was published.
    ///
    /// # Errors
    /// As [`EventBus::publish`], and `InvalidInput` when the key breaks its grammar.
    async fn send<P: Payload>(&self, topic: Topic, key: Option<&str>, message: &P) -> Result<Event>;
}

#[async_trait]
impl<B: EventBus + ?Sized> EventBusExt for B {
    async fn emit<E: DomainEvent>(&self, event: &E) -> Result<Event> {
        let event = typed(topic_name(E::TYPE)?, event.key().as_deref(), event)?;
        self.publish(event.clone()).await?;
        Ok(event)
    }

    async fn send<P: Payload>(&self, topic: Topic, key: Option<&str>, message: &P) -> Result<Event> {
        let event = typed(topic, key, message)?;
        self.publish(event.clone()).await?;
        Ok(event)
    }
}

fn typed<P: Payload>(topic: Topic, key: Option<&str>, message: &P) -> Result<Event> {
    let mut builder = Event::builder(topic)
        .content_type(P::CONTENT_TYPE)
        .payload(message.encode()?);
    if let Some(key) = key {
        builder = builder.key(key);
    }
    builder.build()
}
