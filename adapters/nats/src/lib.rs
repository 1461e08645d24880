//! The event bus on NATS JetStream.
//!
//! One stream holds the events; a topic is a subject of it, a consumer group a durable pull consumer for each of its
//! topics. `publish` returns when the stream has stored the event, and the event's id is the broker's deduplication id.
//! Events travel as CloudEvents in binary mode, so any NATS client can read and write them.
//!
//! ```no_run
//! use cqi_core::event::{Event, EventBus};
//! use cqi_core::name::topic_name;
//! use cqi_nats::{NatsBus, NatsOptions};
//!
//! # async fn run() -> cqi_core::Result<()> {
//! let bus = NatsBus::connect(NatsOptions::new("nats://localhost:4222")).await?;
//! bus.publish(Event::builder(topic_name("asset_created")?).payload("{}").build()?).await?;
//! bus.close().await
//! # }
//! ```
//!
//! # What this bus promises
//! - An acknowledged event survives a killed server (`ProcessCrash`), or a power loss where the server runs with
//!   `sync_interval: always`, which a client cannot see.
//! - Delivery is at least once. An acknowledgement of a delivery is not confirmed by the server unless
//!   [`NatsOptions::confirm_acks`] is set; one that is lost on the way brings the event back.
//! - Events are given out in the order they were stored; a redelivery may be overtaken. Of the members of a group in one
//!   process, one gets all events of a key. Members in different processes work at the same time: two of them can have
//!   events of one key in hand, as JetStream has no partitions that belong to a member.
//! - A member fetches what it was asked for, and as much ahead. One that is alone in its process and works off a fetch
//!   within 20 ms fetches more at once: up to 512 messages or about 1 MiB.
//! - What a member fetched and did not take is handed back, at the latest after two thirds of the ack deadline. That is no
//!   attempt, and when it comes again it comes in order, before what is younger, unless the connection is lost just then.
//! - The members of a group must agree on the ack deadline: the last one that joins sets it.

mod acker;
mod bus;
mod config;
mod consumer;
mod deliveries;
mod error;
mod group;
mod headers;
mod inbox;
mod keep;
mod link;
mod message;
mod publish;
mod reading;
mod released;
mod requests;
mod share;
mod stream;
mod unsettled;
mod wakers;

pub use self::{
    bus::NatsBus,
    config::{NatsOptions, StreamOptions},
};
