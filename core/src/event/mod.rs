//! Events: publishing them, and handling each at least once.
//!
//! ```text
//! publish   ext.rs (encode, stamp) → guarded.rs (policy, trace headers) → adapter (send, await the broker's ack)
//! consume   adapter (yield deliveries) → consume.rs (slot, lease, middleware) → your handler → settle.rs (ack, retry, dead letter)
//! ```
//!
//! Nothing else is on the path. Delivery is at least once, on every backend.

#[allow(clippy::module_inception)]
mod event;
mod headers;
mod payload;
mod port;

pub use self::{
    event::{Event, EventBuilder, EventId},
    headers::Headers,
    payload::{DomainEvent, Json, Payload},
    port::{
        Acker, Capabilities, Deliveries, Delivery, Durability, EventBus, Order, Redelivery, StartAt,
        Subscription,
    },
};
