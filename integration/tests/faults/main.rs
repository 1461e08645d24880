//! Faults of real servers: killed, paused, cut off, full. What was acknowledged is there afterwards.
//!
//! Every test names its fault in the catalogue, prints one line of figures, and appends it to the evidence that
//! `docs/reliability.md` is made of (`scripts/reliability`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not recognise as such

mod bus_consumer;
mod bus_crash;
mod bus_disk;
mod bus_handlers;
mod bus_link;
mod bus_pause;
mod bus_power;
mod bus_start;
mod database;
mod failover;
mod harness;
mod kafka;
mod kafka_cluster;
mod kafka_cut;
mod liars;
mod nats_cluster;
mod quickstart;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)] // the other test program uses the rest of it
mod support;
