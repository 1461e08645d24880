//! Events on their way to the client.
//!
//! Of a few publishers, what is published while others have not heard waits here, and goes in one request after that. So
//! a lone publisher never waits, and a few share each request. The client gathers by itself too, but keeps a processor
//! busy as long as it has an event that it may not send yet. With many publishers that is worth it: what they publish is
//! there when it may go.

use std::{
    collections::VecDeque,
    mem::take,
    sync::{Arc, Mutex},
    time::Duration,
};

use rdkafka::message::OwnedHeaders;

use super::outgoing::{CANCELLED, HEARD, Outgoing, WAITING};
use crate::client::lock;

/// How long an event waits for others, whose partition may have no leader.
pub(crate) const HOLD: Duration = Duration::from_millis(20);

/// So many publishers wait for each other.
const FEW: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Outbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Ready>,
    /// Begins anew when events go though a few are waited for: those may belong to a partition without a leader.
    turn: u64,
    /// How many publishers have not heard of what was handed over in this turn.
    unheard: usize,
    /// Somebody hands over; nobody else may, lest the order be lost.
    handing: bool,
}

/// An event and its headers.
type Ready = (Arc<Outgoing>, OwnedHeaders);

impl Outbox {
    /// Puts an event behind all that came before it.
    pub(crate) fn put(&self, event: Arc<Outgoing>, headers: OwnedHeaders) {
        lock(&self.0).waiting.push_back((event, headers));
    }

    /// Gives an event to `send`, if it may go and none waits before it. If not, or if `send` gives it back as the client is
    /// full, it is behind those, and the answer is no: they may all have to go now.
    #[must_use]
    pub(crate) fn pass(
        &self,
        event: &Arc<Outgoing>,
        headers: OwnedHeaders,
        send: impl FnOnce(&Arc<Outgoing>, OwnedHeaders) -> Result<(), OwnedHeaders>,
    ) -> bool {
        let mut state = lock(&self.0);
        if state.handing || !state.waiting.is_empty() || state.are_few(1) {
            state.waiting.push_back((Arc::clone(event), headers));
            return false;
        }
        state.goes(event);
        drop(state);
        let Err(headers) = send(event, headers) else {
            return true;
        };
        let mut state = lock(&self.0);
        state.stays(event);
        state.waiting.push_back((Arc::clone(event), headers));
        false
    }

    /// The publisher of an event has heard of it, or does not listen any longer. One that waits is not sent then.
    pub(crate) fn heard(&self, event: &Outgoing) {
        let mut state = lock(&self.0);
        match event.turn() {
            WAITING => event.set_turn(CANCELLED),
            _ => {
                state.forget(event);
                event.set_turn(HEARD);
            }
        }
    }

    /// Gives what waits to `send`, in order, unless a few are waited for; or `now`. An event that `send` gives back, as the
    /// client is full, waits on, and so do all after it. Returns how many were cancelled.
    pub(crate) fn hand_over(
        &self,
        mut now: bool,
        send: impl Fn(&Arc<Outgoing>, OwnedHeaders) -> Result<(), OwnedHeaders>,
    ) -> usize {
        let mut cancelled = 0;
        while let Some(mut batch) = self.begin(now, &mut cancelled) {
            let mut full = false;
            while !full && let Some((event, headers)) = batch.pop_front() {
                if let Err(headers) = send(&event, headers) {
                    batch.push_front((event, headers));
                    full = true;
                }
            }
            self.end(batch);
            if full {
                break;
            }
            now = false; // once more for what came meanwhile
        }
        cancelled
    }

    /// How many events are not with the client.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.0).waiting.len()
    }

    fn begin(&self, now: bool, cancelled: &mut usize) -> Option<VecDeque<Ready>> {
        let mut state = lock(&self.0);
        if state.handing || state.waiting.is_empty() || (state.are_few(0) && !now) {
            return None;
        }
        state.handing = true;
        if now {
            state.turn += 1;
            state.unheard = 0;
        }
        let mut batch = take(&mut state.waiting);
        let all = batch.len();
        batch.retain(|(event, _)| event.turn() != CANCELLED);
        *cancelled += all - batch.len();
        for (event, _) in &batch {
            state.goes(event);
        }
        Some(batch)
    }

    fn end(&self, mut rest: VecDeque<Ready>) {
        let mut state = lock(&self.0);
        state.handing = false;
        for (event, _) in &rest {
            state.stays(event);
        }
        rest.append(&mut state.waiting);
        state.waiting = rest; // and the room that was allocated
    }
}

impl State {
    /// Whether there are few publishers, with so many `more`, some of whom are waited for.
    fn are_few(&self, more: usize) -> bool {
        self.unheard > 0 && self.unheard + self.waiting.len() + more <= FEW
    }

    /// An event is about to be handed over.
    fn goes(&mut self, event: &Outgoing) {
        if event.is_waiting() {
            event.set_turn(self.turn);
            self.unheard += 1;
        }
    }

    /// An event was given back.
    fn stays(&mut self, event: &Outgoing) {
        if event.turn() != HEARD {
            self.forget(event);
            event.set_turn(WAITING);
        }
    }

    /// An event is waited for no longer.
    fn forget(&mut self, event: &Outgoing) {
        if event.turn() == self.turn {
            self.unheard -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    };

    use cqi_core::{event::Event, name::topic_name};

    use super::*;

    /// Its key is its number.
    fn event(number: usize) -> Arc<Outgoing> {
        let event = Event::builder(topic_name("numbers").unwrap()).key(number.to_string());
        Arc::new(Outgoing::new(event.build().unwrap()))
    }

    fn put(outbox: &Outbox, number: usize) -> Arc<Outgoing> {
        let event = event(number);
        outbox.put(Arc::clone(&event), OwnedHeaders::new());
        event
    }

    fn number(event: &Outgoing) -> usize {
        event.event.key().unwrap().parse().unwrap()
    }

    /// What is handed over, if the client has room for `room`; and how many were cancelled.
    fn handed_over(outbox: &Outbox, now: bool, room: usize) -> (Vec<usize>, usize) {
        let sent = Mutex::new(Vec::new());
        let cancelled = outbox.hand_over(now, |event, headers| {
            let mut sent = lock(&sent);
            if sent.len() == room {
                return Err(headers);
            }
            sent.push(number(event));
            Ok(())
        });
        (sent.into_inner().unwrap(), cancelled)
    }

    #[test]
    fn a_lone_event_goes_at_once_and_others_when_its_publisher_has_heard() {
        let outbox = Outbox::default();
        let first = put(&outbox, 1);
        assert_eq!(handed_over(&outbox, false, 9).0, [1]);
        let second = put(&outbox, 2);
        put(&outbox, 3);
        assert!(handed_over(&outbox, false, 9).0.is_empty());
        assert!(second.is_waiting() && !first.is_waiting());
        outbox.heard(&first);
        assert_eq!(handed_over(&outbox, false, 9).0, [2, 3]);
        assert!(!second.is_waiting());
    }

    #[test]
    fn more_than_a_few_do_not_wait() {
        let outbox = Outbox::default();
        put(&outbox, 0);
        assert_eq!(handed_over(&outbox, false, 99).0, [0]);
        for number in 1..FEW {
            put(&outbox, number);
            assert!(handed_over(&outbox, false, 99).0.is_empty());
        }
        let last = event(FEW);
        let passed = outbox.pass(&last, OwnedHeaders::new(), |_, _| panic!("others are before it"));
        assert!(!passed && last.is_waiting());
        assert_eq!(handed_over(&outbox, false, 99).0, (1..=FEW).collect::<Vec<_>>());
        let next = event(10);
        assert!(outbox.pass(&next, OwnedHeaders::new(), |_, _| Ok(())));
        assert!(!next.is_waiting());
    }

    #[test]
    fn what_a_full_client_gave_back_at_once_waits() {
        let outbox = Outbox::default();
        let only = event(1);
        assert!(!outbox.pass(&only, OwnedHeaders::new(), |_, headers| Err(headers)));
        assert!(only.is_waiting());
        assert_eq!(handed_over(&outbox, false, 9).0, [1]);
    }

    #[test]
    fn who_is_sent_before_others_have_heard_is_waited_for_alone() {
        let outbox = Outbox::default();
        let slow = put(&outbox, 1);
        handed_over(&outbox, false, 9);
        let second = put(&outbox, 2);
        assert_eq!(handed_over(&outbox, true, 9).0, [2]);
        put(&outbox, 3);
        outbox.heard(&slow);
        assert!(handed_over(&outbox, false, 9).0.is_empty());
        outbox.heard(&second);
        assert_eq!(handed_over(&outbox, false, 9).0, [3]);
    }

    #[test]
    fn what_is_cancelled_before_it_was_handed_over_is_not_sent() {
        let outbox = Outbox::default();
        let first = put(&outbox, 1);
        handed_over(&outbox, false, 9);
        let second = put(&outbox, 2);
        put(&outbox, 3);
        outbox.heard(&second);
        outbox.heard(&first);
        assert_eq!(handed_over(&outbox, false, 9), (vec![3], 1));
    }

    #[test]
    fn the_first_of_all_may_be_cancelled_too() {
        let outbox = Outbox::default();
        outbox.heard(&put(&outbox, 1));
        put(&outbox, 2);
        assert_eq!(handed_over(&outbox, false, 9), (vec![2], 1));
    }

    #[test]
    fn what_a_full_client_gave_back_keeps_its_place() {
        let outbox = Outbox::default();
        let events: Vec<_> = (1..=4).map(|number| put(&outbox, number)).collect();
        assert_eq!(handed_over(&outbox, false, 2).0, [1, 2]);
        put(&outbox, 5);
        assert!(events[2].is_waiting());
        outbox.heard(&events[0]);
        assert!(handed_over(&outbox, false, 9).0.is_empty());
        outbox.heard(&events[1]);
        assert_eq!(handed_over(&outbox, false, 9).0, [3, 4, 5]);
    }

    #[test]
    fn one_that_was_cancelled_while_it_was_given_back_is_sent() {
        let outbox = Outbox::default();
        let only = put(&outbox, 1);
        outbox.hand_over(false, |event, headers| {
            outbox.heard(event);
            Err(headers)
        });
        assert!(!only.is_waiting());
        assert_eq!(handed_over(&outbox, false, 9), (vec![1], 0));
    }

    #[test]
    fn events_of_each_publisher_stay_in_order_and_none_is_forgotten() {
        const PUBLISHERS: usize = 4;
        const EACH: usize = 5_000;
        let outbox = Outbox::default();
        let sent = Mutex::new(Vec::new());
        let sending = AtomicBool::new(false);
        thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let (outbox, sent, sending) = (&outbox, &sent, &sending);
                scope.spawn(move || {
                    let pass = |event: &Arc<Outgoing>, _| {
                        lock(sent).push(number(event));
                        Ok(())
                    };
                    let send = |event: &Arc<Outgoing>, headers| {
                        assert!(!sending.swap(true, SeqCst), "two hand over at once");
                        let sent = pass(event, headers);
                        sending.store(false, SeqCst);
                        sent
                    };
                    for i in 0..EACH {
                        let event = event(publisher * EACH + i);
                        if i % 2 == 0 {
                            let _ = outbox.pass(&event, OwnedHeaders::new(), pass);
                        } else {
                            outbox.put(Arc::clone(&event), OwnedHeaders::new());
                        }
                        outbox.hand_over(i % 7 == 0, send);
                        if i % 3 == 0 {
                            while event.is_waiting() {
                                outbox.hand_over(true, send);
                            }
                        }
                        if !event.is_waiting() {
                            outbox.heard(&event);
                        }
                    }
                });
            }
        });
        let mut sent = sent.into_inner().unwrap();
        sent.extend(handed_over(&outbox, true, usize::MAX).0);
        assert_eq!(sent.len(), PUBLISHERS * EACH);
        for publisher in 0..PUBLISHERS {
            let of = |number: &&usize| **number / EACH == publisher;
            assert!(sent.iter().filter(of).is_sorted(), "publisher {publisher}");
        }
    }
}
