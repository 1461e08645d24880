//! The service that consumes: a router's topics, in one consumer group, from start to drain.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::future::try_join_all;
use tokio::task::JoinSet;

use super::{ConsumeOptions, EventBus, Router, StartAt, Subscription, consume::Consumer};
use crate::{
    Error, Result,
    name::Group,
    observe::{Observer, Silent},
    service::{Lifecycle, Service},
};

/// Consumes every topic of a [`Router`] as a member of one group.
///
/// The standard layers are put around the router's own: tracing, then metrics, then logging, then the router's layers,
/// then the handler.
pub struct Subscriber {
    name: String,
    bus: Arc<dyn EventBus>,
    group: Group,
    router: Router,
    options: ConsumeOptions,
    start_at: StartAt,
    observer: Option<Arc<dyn Observer>>,
}

impl Subscriber {
    /// A subscriber named `subscriber`, with the default options and no observer.
    pub fn new(bus: Arc<dyn EventBus>, group: Group, router: Router) -> Self {
        Self {
            name: "subscriber".to_owned(),
            bus,
            group,
            router,
            options: ConsumeOptions::default(),
            start_at: StartAt::New,
            observer: None,
        }
    }

    /// Sets the service name, which must be unique within an app.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how the subscriptions are worked on.
    pub fn with_options(mut self, options: ConsumeOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets where the group begins if it is new.
    pub fn with_start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }

    /// Reports to `observer`.
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("name", &self.name)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Service for Subscriber {
    fn name(&self) -> &str {
        &self.name
    }

    /// Subscribes to every topic, says it is ready, and consumes until it is to stop. When that is so before, it joins no
    /// group and ends.
    async fn run(self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        let Self {
            name: _,
            bus,
            group,
            router,
            options,
            start_at,
            observer,
        } = *self;
        options.validate()?;
        let joining = router.into_routes()?.into_iter().map(async |(topic, route)| {
            let subscription = Subscription::new(topic, group.clone())
                .with_ack_deadline(options.ack_deadline)
                .with_start_at(start_at);
            let deliveries = bus.subscribe(subscription.clone()).await?;
            let consumer = Consumer {
                bus: Arc::clone(&bus),
                subscription,
                route,
                options: options.clone(),
                observer: observer.clone().unwrap_or_else(|| Arc::new(Silent)),
                measured: observer.clone(),
            };
            Ok::<_, Error>((consumer, deliveries))
        });
        // Side by side: a broker may take seconds for each group.
        let joined = tokio::select! {
            biased;
            () = lifecycle.shutdown() => return Ok(()),
            joined = try_join_all(joining) => joined?,
        };
        // One topic that ends stops the others.
        let stop = lifecycle.token().child_token();
        let mut consuming = JoinSet::new();
        for (consumer, deliveries) in joined {
            consuming.spawn(consumer.run(deliveries, stop.clone()));
        }
        lifecycle.ready();
        let mut result = Ok(());
        while let Some(ended) = consuming.join_next().await {
            stop.cancel();
            let ended = ended.unwrap_or_else(|error| Err(Error::panicked("consume loop").with_source(error)));
            if let (Err(_), Err(error)) = (&result, &ended) {
                tracing::error!(error = %error.chain(), "consuming another topic failed too"); // only the first is returned
            }
            result = result.and(ended);
        }
        result
    }
}
