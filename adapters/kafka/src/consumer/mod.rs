//! Consuming: one membership per group, topic and bus, shared by its subscriptions.
//!
//! A thread of its own drives each membership (`driver.rs`): it serves the client, commits what is settled, and moves
//! partitions. Members (`member.rs`) take what the client has fetched into the ledger (`fetching.rs`, `ledger.rs`), and
//! settle in it; neither ever waits for the broker.

mod callbacks;
mod committer;
mod committing;
mod driver;
mod entries;
mod fetching;
mod group;
mod ledger;
mod member;
mod moment;
mod moving;
mod notes;
mod partition;
mod placing;

pub(crate) use self::{group::Group, ledger::AGES, member::Member};
