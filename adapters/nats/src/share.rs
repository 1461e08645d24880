//! Whose the messages are that lie in a group's inbox.

use std::collections::HashSet;

use async_nats::Message;
use tokio::time::Instant;

use crate::{consumer::fnv1a, headers, message::Place};

/// A message that has arrived and was not given out.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) message: Message,
    pub(crate) place: Place,
    /// No later than it arrived.
    pub(crate) since: Instant,
    /// How often it was released, once that is known.
    pub(crate) released: Option<u32>,
}

/// Which messages are a member's: the first deliveries of a key always go to the same member of this process, so that
/// they are handled in order; all else goes to whoever asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl Share {
    pub(crate) fn takes(self, held: &Held) -> bool {
        self.of == 1 || held.owner(self.of).is_none_or(|index| index == self.index as u64)
    }
}

impl Held {
    /// Which of so many members it is for; `None`: any.
    fn owner(&self, of: usize) -> Option<u64> {
        if self.place.delivered > 1 {
            return None;
        }
        headers::key(&self.message).map(|key| fnv1a(key.as_bytes()) % of as u64)
    }
}

/// Parts what so many members have waiting: first what is for those who leave something lying that came before `then`, with
/// all that came for them since, and then the rest.
pub(crate) fn forsaken(held: Vec<Held>, of: usize, then: Instant) -> (Vec<Held>, Vec<Held>) {
    if of == 1 {
        return (held, Vec::new());
    }
    let old = held.iter().filter(|held| held.since <= then);
    let owners: HashSet<_> = old.map(|held| held.owner(of)).collect();
    held.into_iter()
        .partition(|held| owners.contains(&held.owner(of)))
}
