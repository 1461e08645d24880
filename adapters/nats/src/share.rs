//! Whose the messages are that lie in a group's inbox.

use std::collections::HashSet;

use async_nats::Subject;
use cqi_core::event::Event;
use tokio::time::Instant;

use crate::{consumer::fnv1a, message::Place};

/// A message that has arrived and was not given out.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) event: Event,
    /// Where it is settled.
    pub(crate) reply: Subject,
    /// The size of the message.
    pub(crate) bytes: usize,
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
        self.event.key().map(|key| fnv1a(key.as_bytes()) % of as u64)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cqi_core::name::topic_name;

    use super::*;

    fn held(key: &str, sequence: u64, since: Instant) -> Held {
        let event = Event::builder(topic_name("a").unwrap()).key(key);
        let place = Place {
            delivered: 1,
            sequence,
            stored_at: 0,
        };
        Held {
            event: event.build().unwrap(),
            reply: "reply".into(),
            bytes: 0,
            place,
            since,
            released: Some(0),
        }
    }

    #[test]
    fn what_is_forsaken_goes_with_all_that_came_for_the_same_member_since() {
        let now = Instant::now();
        let then = now + Duration::from_secs(1);
        let late = then + Duration::from_secs(1);
        let keys: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let owner = |key: &str| held(key, 0, now).owner(2);
        let one = &keys[0];
        let other = keys.iter().find(|key| owner(key) != owner(one)).unwrap();
        let all = || vec![held(one, 1, now), held(other, 2, late), held(one, 3, late)];
        let numbers = |held: &[Held]| held.iter().map(|held| held.place.sequence).collect::<Vec<_>>();
        let (back, rest) = forsaken(all(), 2, then);
        assert_eq!((numbers(&back), numbers(&rest)), (vec![1, 3], vec![2]));
        let (back, rest) = forsaken(all(), 1, then);
        assert_eq!((numbers(&back), numbers(&rest)), (vec![1, 2, 3], vec![]));
    }
}
