//! Events: publishing them, and handling each at least once.
//!
//! ```text
//! publish   ext.rs (encode, stamp) → guarded.rs (policy, trace headers) → adapter (send, await the broker's ack)
//! consume   adapter (yield deliveries) → consume.rs (slot, lease, middleware) → your handler → settle.rs (ack, retry, dead letter)
//! ```
//!
//! Nothing else is on the path. Delivery is at least once, on every backend.

mod consume;
pub mod envelope;
#[allow(clippy::module_inception)]
mod event;
mod ext;
mod guarded;
mod handler;
mod headers;
mod id;
mod memory;
pub mod middleware;
mod payload;
mod port;
mod router;
mod settle;
mod subscriber;

pub use self::{
    consume::ConsumeOptions,
    event::{Event, EventBuilder},
    ext::EventBusExt,
    guarded::{BusChecker, GuardedBus},
    handler::{Message, Next, Received, Route},
    headers::Headers,
    id::EventId,
    memory::{MemoryBus, MemoryBusOptions},
    payload::{DomainEvent, Json, Payload},
    port::{
        Acker, Capabilities, Deliveries, Delivery, Durability, EventBus, Lease, Order, Redelivery, StartAt,
        Subscription, settled,
    },
    router::Router,
    settle::{DeadLetter, header},
    subscriber::Subscriber,
};

/// Locks a mutex that no code of ours can leave poisoned: nothing between lock and unlock panics.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
