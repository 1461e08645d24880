//! Layers for event handlers. Each is a [`tower::Layer`] over [`Route`](super::Route); your own are as short with
//! [`from_fn`].
//!
//! Order: the layer added last sees the message first. [`Subscriber`](super::Subscriber) puts [`Trace`], [`Measure`] and
//! [`Log`] around all others, in this order from the outside, so that a log line has its trace and a layer of yours is
//! measured and logged.

mod from_fn;
mod log;
mod measure;
mod retry;
mod timeout;
mod trace;

pub use self::{
    from_fn::{FromFn, from_fn},
    log::Log,
    measure::Measure,
    retry::InPlaceRetry,
    timeout::Timeout,
    trace::Trace,
};
