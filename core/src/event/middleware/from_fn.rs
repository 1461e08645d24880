//! A layer made of an async function.

use tower::{Layer, Service};

use crate::{
    Error, Result,
    event::{Message, Next, Route},
};

/// Makes a layer of an async function of a message and what comes next.
///
/// ```
/// use cqi_core::event::{Message, Next, Router, middleware::from_fn};
///
/// let router = Router::new().layer(from_fn(|message: Message, next: Next| async move {
///     println!("{} came in", message.event.id());
///     next.run(message).await
/// }));
/// # let _ = router;
/// ```
pub fn from_fn<F, Fut>(function: F) -> FromFn<F>
where
    F: Fn(Message, Next) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    FromFn(function)
}

/// See [`from_fn`].
#[derive(Debug, Clone)]
pub struct FromFn<F>(F);

impl<S, F, Fut> Layer<S> for FromFn<F>
where
    S: Service<Message, Response = (), Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    F: Fn(Message, Next) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    type Service = Route;

    fn layer(&self, inner: S) -> Route {
        let (function, next) = (self.0.clone(), Next::new(Route::from_service(inner)));
        Route::from_fn(move |message| function(message, next.clone()))
    }
}

/// Implements a layer by an async method `run(self, Message, Next)`, so that each middleware is its idea and nothing else.
macro_rules! middleware {
    ($name:ident) => {
        impl<S> tower::Layer<S> for $name
        where
            S: tower::Service<crate::event::Message, Response = (), Error = crate::Error>,
            S: Clone + Send + Sync + 'static,
            S::Future: Send + 'static,
        {
            type Service = crate::event::Route;

            fn layer(&self, inner: S) -> crate::event::Route {
                let middleware = self.clone();
                $crate::event::middleware::from_fn(move |message, next| middleware.clone().run(message, next))
                    .layer(inner)
            }
        }
    };
}
pub(super) use middleware;
