//! An event bus with faults.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    event::{Acker, Capabilities, Deliveries, Delivery, Event, EventBus, Lease, Redelivery, Subscription},
};

use super::Faults;

/// An [`EventBus`] with faults. A fault of `publish_batch` strikes all its events.
#[derive(Debug)]
pub struct FaultyBus {
    inner: Arc<dyn EventBus>,
    faults: Faults,
}

impl FaultyBus {
    /// Puts faults around a bus.
    pub fn new(inner: Arc<dyn EventBus>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl EventBus for FaultyBus {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn publish(&self, event: Event) -> Result<()> {
        let target = event.topic().as_str().to_owned();
        self.faults
            .run("publish", target, self.inner.publish(event))
            .await
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Vec<Result<()>> {
        let count = events.len();
        let target = events
            .first()
            .map_or_else(String::new, |event| event.topic().to_string());
        let real = async { Ok(self.inner.publish_batch(events).await) };
        let failed = |error: Error| vec![Err(error); count];
        self.faults
            .run("publish_batch", target, real)
            .await
            .unwrap_or_else(failed)
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>> {
        let target = subscription.topic.as_str().to_owned();
        let faults = self.faults.clone();
        let inner = faults
            .run("subscribe", target.clone(), self.inner.subscribe(subscription))
            .await?;
        Ok(Box::new(FaultyDeliveries {
            inner,
            target,
            faults,
        }))
    }

    async fn ping(&self) -> Result<()> {
        self.faults.run("ping", "", self.inner.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.faults.run("close", "", self.inner.close()).await
    }
}

#[derive(Debug)]
struct FaultyDeliveries {
    inner: Box<dyn Deliveries>,
    target: String,
    faults: Faults,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Deliveries for FaultyDeliveries {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let real = async { self.inner.next(max).await.transpose() };
        let batch = self
            .faults
            .run("next", self.target.as_str(), real)
            .await
            .transpose()?;
        Some(batch.map(|batch| {
            batch
                .into_iter()
                .map(|delivery| wrap(delivery, &self.faults))
                .collect()
        }))
    }

    async fn close(&mut self) -> Result<()> {
        self.faults
            .run("leave", self.target.as_str(), self.inner.close())
            .await
    }
}

fn wrap(delivery: Delivery, faults: &Faults) -> Delivery {
    let (event, attempt, inner) = delivery.into_parts();
    let acker = FaultyAcker {
        inner,
        target: event.topic().as_str().to_owned(),
        faults: faults.clone(),
    };
    Delivery::new(event, attempt, Lease::new(Arc::new(acker), 0))
}

#[derive(Debug)]
struct FaultyAcker {
    inner: Lease,
    target: String,
    faults: Faults,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Acker for FaultyAcker {
    async fn ack(&self, _: u64) -> Result<()> {
        self.faults
            .run("ack", self.target.as_str(), self.inner.ack())
            .await
    }

    async fn nack(&self, _: u64, redelivery: Redelivery) -> Result<()> {
        self.faults
            .run("nack", self.target.as_str(), self.inner.nack(redelivery))
            .await
    }

    async fn extend(&self, _: u64) -> Result<()> {
        self.faults
            .run("extend", self.target.as_str(), self.inner.extend())
            .await
    }
}
