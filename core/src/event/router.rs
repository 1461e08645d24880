//! Which handler takes which topic, and the layers around the handlers.

use std::collections::BTreeMap;

use tower::{Layer, Service};

use super::{DomainEvent, Message, Payload, Received, Route};
use crate::{
    Error, Result,
    name::{Topic, topic_name},
};

/// Maps topics to handlers. Handlers are plain async functions over a [`Received`] body; layers are [`tower::Layer`]s.
///
/// ```
/// use cqi_core::{
///     event::{Json, Received, Router, middleware},
///     name::topic_name,
/// };
///
/// # fn main() -> cqi_core::Result<()> {
/// let router = Router::new()
///     .on(topic_name("asset_created")?, |asset: Received<Json<String>>| async move {
///         println!("{} is new", asset.0);
///         Ok(())
///     })
///     .layer(middleware::Timeout::new(std::time::Duration::from_secs(5)));
/// # let _ = router; Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Router {
    routes: BTreeMap<Topic, Route>,
    error: Option<Error>,
}

impl Router {
    /// A router without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles a topic. A second handler for one topic is an error, told by [`Router::into_routes`].
    pub fn on<T, F, Fut>(self, topic: Topic, handler: F) -> Self
    where
        T: Payload,
        F: Fn(Received<T>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let handle = move |message| {
            let running = Received::decode(message).map(&handler);
            async move { running?.await }
        };
        self.route(topic, Route::from_fn(handle))
    }

    /// Handles the topic of a domain event.
    pub fn on_event<E, F, Fut>(mut self, handler: F) -> Self
    where
        E: DomainEvent,
        F: Fn(Received<E>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        match topic_name(E::TYPE) {
            Ok(topic) => self.on(topic, handler),
            Err(error) => {
                self.error.get_or_insert(error);
                self
            }
        }
    }

    /// Handles a topic with a route made by hand, for example of a tower service over raw messages.
    pub fn route(mut self, topic: Topic, route: Route) -> Self {
        if self.routes.insert(topic.clone(), route).is_some() {
            let error = Error::invalid_input("topic has two handlers").with_context("topic", topic);
            self.error.get_or_insert(error);
        }
        self
    }

    /// Puts a layer around every handler added so far. The layer added last sees the message first; within one
    /// `tower::ServiceBuilder` the first does.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route>,
        L::Service: Service<Message, Response = (), Error = Error> + Clone + Send + Sync + 'static,
        <L::Service as Service<Message>>::Future: Send + 'static,
    {
        let wrapped = self
            .routes
            .into_iter()
            .map(|(topic, route)| (topic, Route::from_service(layer.layer(route))));
        self.routes = wrapped.collect();
        self
    }

    /// The handlers by topic.
    ///
    /// # Errors
    /// `InvalidInput` when a topic has two handlers or an event type breaks the grammar.
    pub fn into_routes(self) -> Result<BTreeMap<Topic, Route>> {
        self.error.map_or(Ok(self.routes), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Json;

    /// ML-MSG-3: one handler for a topic of a router; several subscribers have one each.
    #[test]
    fn a_topic_with_two_handlers_is_refused() {
        let topic = topic_name("asset_created").unwrap();
        let handler = |_: Received<Json<u32>>| async { Ok(()) };
        let router = Router::new().on(topic.clone(), handler).on(topic, handler);
        assert!(router.into_routes().unwrap_err().is_invalid_input());
    }
}
