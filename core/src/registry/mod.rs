//! Which services run where.

mod checker;
mod guarded;
mod keep_alive;
mod memory;
mod port;
mod resolver;
#[cfg(test)]
mod testing;

pub use self::{
    checker::RegistryChecker,
    guarded::GuardedRegistry,
    keep_alive::{KeepAlive, KeepAliveOptions},
    memory::MemoryRegistry,
    port::{Change, Instance, Registry, ServiceInfo, Watch},
    resolver::Resolver,
};
