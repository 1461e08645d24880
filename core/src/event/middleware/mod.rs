//! Layers for event handlers. Each is a [`tower::Layer`] over [`Route`]; your own are as short with
//! [`from_fn`].
//!
//! Order: the layer added last sees the message first. [`Subscriber`](super::Subscriber) puts the span of [`Trace`],
//! [`Measure`] and [`Log`] around all others, in this order from the outside, so that a log line has its trace and a layer of yours is
//! measured and logged.

mod authenticate;
mod from_fn;
mod log;
mod measure;
mod retry;
mod timeout;
mod trace;

pub use self::{
    authenticate::Authenticate,
    from_fn::{FromFn, from_fn},
    log::Log,
    measure::Measure,
    retry::InPlaceRetry,
    timeout::Timeout,
    trace::Trace,
};

pub(super) use self::trace::{failed, span};

use super::{Message, Route};
use crate::{Result, observe::Observer};

/// The standard layers inside the span, in one: as `Measure` and `Log` around each other, without a box for each.
pub(super) async fn standard(route: &Route, observer: Option<&dyn Observer>, message: Message) -> Result<()> {
    let handle = |message| log::log(message, |message| route.handle(message));
    match observer {
        Some(observer) => measure::measure(observer, message, handle).await,
        None => handle(message).await,
    }
}
