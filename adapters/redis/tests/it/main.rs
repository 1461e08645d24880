//! The adapter against real servers: both suites, the traps of the client, and faults.

mod cache;
mod registry;
mod server;
