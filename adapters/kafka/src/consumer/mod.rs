//! Consuming: one membership per group, topic and bus, shared by its subscriptions.
//!
//! A thread of its own drives each membership (`driver.rs`): it polls the client, fills the ledger (`ledger.rs`), commits
//! what is settled, and moves partitions. Members (`member.rs`) take from the ledger and settle in it; neither ever waits
//! for the broker.

mod callbacks;
mod committer;
mod committing;
mod driver;
mod group;
mod ledger;
mod member;
mod moment;
mod moving;
mod notes;
mod partition;
mod placing;

pub(crate) use self::{group::Group, member::Member};
