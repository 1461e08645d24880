//! Fetched records on their way into the ledger.
//!
//! Whoever asks for events takes them out of the client's queues itself: a record is decoded, handled and dropped on one
//! thread, and nobody wakes another for it. What nobody asks for stays in the client, which then fetches no more.

use std::{sync::Arc, time::Duration};

use cqi_core::event::Event;
use rdkafka::consumer::base_consumer::PartitionQueue;

use super::{
    callbacks::Callbacks,
    group::{Group, State},
    moment::Clock,
};
use crate::{client::lock, record::Decoder};

/// The most errors of the client that wait for the driver; the first ones say most.
const ERRORS: usize = 16;
/// A batch ends with the event that makes it this large: events are handled and freed while they are near.
const BATCH_BYTES: usize = 64 * 1024;

/// The queues of the partitions this member owns and may give out.
#[derive(Default)]
pub(super) struct Queues {
    all: Vec<(i32, PartitionQueue<Callbacks>)>,
    /// Whose turn it is.
    turn: usize,
    decoder: Decoder,
    /// What was decoded and is not in the ledger yet; kept for its memory.
    batch: Vec<(i32, i64, Event)>,
}

/// What came of fetching.
pub(super) struct Fetched {
    /// There is something to give out.
    pub(super) any: bool,
    /// There may be more than was fetched.
    pub(super) more: bool,
}

impl Group {
    /// Gives out events of this queue from now on.
    pub(super) fn add_queue(self: &Arc<Self>, partition: i32, mut queue: PartitionQueue<Callbacks>) {
        let group = Arc::downgrade(self);
        queue.set_nonempty_callback(move || {
            if let Some(group) = group.upgrade() {
                group.tell_member();
            }
        });
        lock(&self.queues).all.push((partition, queue));
    }

    /// Takes no more out of the queues of these partitions, or of all. Only the driver calls this, which owns the client:
    /// the end of the last handle is the end of the client.
    pub(super) fn remove_queues(&self, of: Option<&[i32]>) {
        let mut queues = lock(&self.queues);
        queues
            .all
            .retain(|(own, _)| of.is_some_and(|of| !of.contains(own)));
    }

    /// Takes up to `max` records into the ledger; more, while all of them wait behind others of their keys.
    pub(super) fn fetch(&self, max: usize) -> Fetched {
        let mut queues = lock(&self.queues);
        let mut state = lock(&self.state);
        loop {
            let room = self.room(&mut state, max);
            state.ledger.give_spent(queues.decoder.spent());
            drop(state); // nothing is decoded under the lock of who settles
            let more = self.poll(&mut queues, room);
            let none = queues.batch.is_empty();
            state = lock(&self.state);
            let any = state.insert(queues.batch.drain(..));
            if any || none {
                return Fetched { any, more };
            }
        }
    }

    /// For how many events there is room, at most `max`, and for how many bytes.
    fn room(&self, state: &mut State, max: usize) -> (usize, usize) {
        let room = self.options.max_unsettled.saturating_sub(state.ledger.held());
        let bytes = self.options.max_unsettled_bytes;
        let room_bytes = bytes.saturating_sub(state.ledger.held_bytes());
        state.full = room == 0 || room_bytes == 0; // then whoever settles tells us
        (room.min(max), room_bytes.min(BATCH_BYTES))
    }

    /// Takes as many records as there are and there is room for. Returns whether the room was too small for all.
    fn poll(
        &self,
        Queues {
            all,
            turn,
            decoder,
            batch,
        }: &mut Queues,
        (mut room, mut room_bytes): (usize, usize),
    ) -> bool {
        for _ in 0..all.len() {
            // Another one begins each time, so that a full one leaves the others their turn.
            *turn = (*turn + 1) % all.len();
            let Some((partition, queue)) = all.get(*turn) else {
                break;
            };
            while room > 0 && room_bytes > 0 {
                match queue.poll(Duration::ZERO) {
                    Some(Ok(record)) => {
                        let event = decoder.event(&self.topic, &record);
                        room -= 1;
                        room_bytes = room_bytes.saturating_sub(event.size());
                        batch.push((*partition, rdkafka::Message::offset(&record), event));
                    }
                    Some(Err(error)) => {
                        let mut state = lock(&self.state);
                        if state.complaints.len() < ERRORS {
                            state.complaints.push(error);
                        }
                        drop(state);
                        self.tell_driver();
                    }
                    None => break,
                }
            }
        }
        room == 0 || room_bytes == 0
    }
}

impl State {
    /// Takes events into the ledger. Returns whether there is more to give out.
    pub(super) fn insert(&mut self, batch: impl IntoIterator<Item = (i32, i64, Event)>) -> bool {
        let mut ready = false;
        for (partition, offset, event) in batch {
            ready |= self.ledger.insert(partition, offset, event, Clock::now);
        }
        ready
    }
}
