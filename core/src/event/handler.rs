//! What a handler is given, and how handlers and layers are held together.

use std::{
    any::Any,
    fmt,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Service, ServiceExt};

use super::{Event, Payload};
use crate::{Error, Result, name::Group};

/// One delivery on its way through the layers to the handler. Cheap to clone.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Message {
    /// The event.
    pub event: Event,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The consumer group that handles it.
    pub group: Group,
}

impl Message {
    /// Made by the consume loop; tests make their own.
    pub fn new(event: Event, attempt: u32, group: Group) -> Self {
        Self {
            event,
            attempt,
            group,
        }
    }
}

/// A decoded message: what a handler takes. Dereferences to the body.
#[derive(Debug, Clone)]
pub struct Received<T> {
    body: T,
    message: Message,
}

impl<T: Payload> Received<T> {
    /// Decodes a message.
    ///
    /// # Errors
    /// `InvalidInput`/`Undecodable`, which sends the event to its dead-letter topic at once.
    pub fn decode(message: Message) -> Result<Self> {
        let body = message.event.decode().map_err(|error: Error| {
            error
                .with_context("topic", message.event.topic())
                .with_context("content_type", message.event.content_type())
        })?;
        Ok(Self { body, message })
    }
}

impl<T> Received<T> {
    /// The event it came in. Its id is what recognises a repeated delivery.
    pub fn event(&self) -> &Event {
        &self.message.event
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.message.attempt
    }

    /// The consumer group that handles it.
    pub fn group(&self) -> &Group {
        &self.message.group
    }

    /// The body itself.
    pub fn into_body(self) -> T {
        self.body
    }
}

impl<T> Deref for Received<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}

/// A handler with its layers, with the type erased. It is a [`tower::Service`] and cheap to clone.
#[derive(Clone)]
pub struct Route(Arc<dyn Handle>);

trait Handle: Send + Sync {
    fn handle(&self, message: Message) -> BoxFuture<'static, Result<()>>;
}

impl Route {
    /// A route of a function on messages.
    pub fn from_fn<F, Fut>(function: F) -> Self
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        Self(Arc::new(FnHandle(function)))
    }

    /// A route of any tower service.
    pub fn from_service<S>(service: S) -> Self
    where
        S: Service<Message, Response = (), Error = Error> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        // A route is a service too; it needs no second wrapping.
        match (&service as &dyn Any).downcast_ref::<Self>() {
            Some(route) => route.clone(),
            None => Self(Arc::new(ServiceHandle(service))),
        }
    }

    /// Handles one message.
    pub fn handle(&self, message: Message) -> BoxFuture<'static, Result<()>> {
        self.0.handle(message)
    }
}

impl Service<Message> for Route {
    type Response = ();
    type Error = Error;
    type Future = BoxFuture<'static, Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(())) // a service that is not ready waits inside its own call
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.0.handle(message)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

struct FnHandle<F>(F);

impl<F, Fut> Handle for FnHandle<F>
where
    F: Fn(Message) -> Fut + Send + Sync,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    fn handle(&self, message: Message) -> BoxFuture<'static, Result<()>> {
        Box::pin((self.0)(message))
    }
}

struct ServiceHandle<S>(S);

impl<S> Handle for ServiceHandle<S>
where
    S: Service<Message, Response = (), Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn handle(&self, message: Message) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.0.clone().oneshot(message))
    }
}

/// What is inside a middleware: the next one, or the handler.
#[derive(Debug, Clone)]
pub struct Next(Route);

impl Next {
    pub(super) fn new(route: Route) -> Self {
        Self(route)
    }

    /// Goes on with the message.
    pub fn run(&self, message: Message) -> BoxFuture<'static, Result<()>> {
        self.0.handle(message)
    }
}
