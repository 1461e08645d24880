//! A membership, as its members and its driver see it.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicUsize},
    thread::Thread,
    time::Duration,
};

use cqi_core::{
    Code, Error, Result,
    event::{Redelivery, StartAt, Subscription},
    name::Topic,
};
use rdkafka::error::KafkaError;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    driver,
    fetching::Queues,
    ledger::Ledger,
    partition::{Claim, Lost},
};
use crate::{client::lock, config::KafkaOptions};

/// How far a membership is.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// The group's positions are not known yet.
    Starting,
    /// The group exists: what is published from now on reaches it.
    Ready,
    /// Nobody can enter any more.
    Leaving,
    /// The client is gone.
    Left,
}

/// A membership of this process in a consumer group, for one topic.
pub(crate) struct Group {
    pub(super) options: Arc<KafkaOptions>,
    pub(super) topic: Topic,
    /// Kafka's name of the group.
    pub(super) id: String,
    pub(super) start_at: StartAt,
    pub(super) state: Mutex<State>,
    /// Locked before `state`, by whoever takes both.
    pub(super) queues: Mutex<Queues>,
    pub(super) phase: watch::Sender<Phase>,
    /// How many wait for events.
    pub(super) waiting: AtomicUsize,
    /// Told when there is something to take.
    wake: Notify,
    driver: OnceLock<Thread>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) members: usize,
    /// The bus was closed.
    pub(super) closed: bool,
    /// What the broker said last, for the next who asks.
    pub(super) error: Option<Error>,
    /// When somebody asked for events last, and how long others wait for one who does not ask.
    pub(super) asked: Instant,
    pub(super) patience: Duration,
    /// The ledger was full: members have to be told of room.
    pub(super) full: bool,
    /// What the client said to members, for the driver.
    pub(super) complaints: Vec<KafkaError>,
    /// The driver was told that everything is settled, and has not committed it yet.
    pub(super) idle: bool,
    /// The driver waits until nothing is out.
    pub(super) draining: bool,
    /// The partitions were given up, as nobody asked for their events.
    pub(super) aside: bool,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// Starts a membership, with one member.
    ///
    /// # Errors
    /// `Temporary`/`Exhausted` when there is no thread for it.
    pub(crate) fn start(options: &Arc<KafkaOptions>, subscription: &Subscription) -> Result<Arc<Self>> {
        let id = if options.group_per_topic {
            format!("{}.{}", subscription.group, subscription.topic)
        } else {
            subscription.group.to_string()
        };
        let group = Arc::new(Self {
            options: Arc::clone(options),
            topic: subscription.topic.clone(),
            id,
            start_at: subscription.start_at,
            state: Mutex::new(State {
                ledger: Ledger::default(),
                members: 1,
                closed: false,
                error: None,
                asked: Instant::now(),
                patience: subscription.ack_deadline,
                full: false,
                complaints: Vec::new(),
                idle: false,
                draining: false,
                aside: false,
            }),
            queues: Mutex::default(),
            waiting: AtomicUsize::new(0),
            phase: watch::Sender::new(Phase::Starting),
            wake: Notify::new(),
            driver: OnceLock::new(),
        });
        driver::start(&group).map_err(|error| {
            Error::temporary("no thread for a consumer")
                .with_code(Code::Exhausted)
                .with_operation("event_bus.subscribe")
                .with_source(error)
        })?;
        Ok(group)
    }

    /// One member more, unless the last one has left and the membership is ending.
    pub(crate) fn enter(&self) -> bool {
        let mut state = lock(&self.state);
        // The driver decides to leave under this lock.
        let open = !state.closed && matches!(*self.phase.borrow(), Phase::Starting | Phase::Ready);
        state.members += usize::from(open);
        open
    }

    /// One member less. The last one ends the membership, once what is out is settled or overdue.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        state.members -= 1;
        let last = state.members == 0;
        drop(state);
        if last {
            self.tell_driver();
        } else {
            self.wake.notify_one(); // a wake-up may have gone to the one who left
        }
    }

    /// The bus is closed: leaves at once.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.wake.notify_waiters();
        self.tell_driver();
    }

    /// Waits until the client has left.
    pub(crate) async fn left(&self) {
        // The sender lives in here, so that waiting cannot fail.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|phase| matches!(phase, Phase::Left))
            .await;
    }

    /// Whether the last member left with nothing out, so that the client leaves right now.
    pub(super) fn ends_now(&self) -> bool {
        let state = lock(&self.state);
        state.members == 0 && !state.ledger.is_out(None, Instant::now())
    }

    /// Whether the membership ends: nobody can enter from then on.
    pub(super) fn try_end(&self) -> bool {
        let mut state = lock(&self.state);
        let left = state.members == 0;
        state.draining = left && state.ledger.is_out(None, Instant::now());
        let ends = state.closed || (left && !state.draining);
        if ends {
            self.phase.send_replace(Phase::Leaving); // under the lock, see `enter`
        }
        ends
    }

    /// The group exists.
    pub(super) fn set_ready(&self) {
        self.phase.send_if_modified(|phase| {
            let starts = matches!(phase, Phase::Starting);
            if starts {
                *phase = Phase::Ready;
            }
            starts
        });
    }

    /// The client failed: what was out comes again.
    pub(super) fn fail(&self, error: Error) {
        let mut state = lock(&self.state);
        state.ledger.clear();
        state.error = Some(error);
        drop(state);
        self.wake.notify_waiters();
    }

    /// Tells the next member that asks, and those that wait for the group, of an error.
    pub(super) fn say(&self, error: Error) {
        lock(&self.state).error = Some(error);
        self.phase.send_modify(|_| {});
        self.tell_member();
    }

    /// Why nobody may be in this group, if so. Not taken away, as the client says it once.
    pub(super) fn refusal(&self) -> Option<Error> {
        let state = lock(&self.state);
        state
            .error
            .as_ref()
            .filter(|error| error.is_unauthorized())
            .cloned()
    }

    pub(super) fn set_driver(&self, thread: Thread) {
        let _ = self.driver.set(thread);
    }

    pub(super) fn tell_driver(&self) {
        if let Some(thread) = self.driver.get() {
            thread.unpark();
        }
    }

    /// There is something to take: one who waits looks.
    pub(super) fn tell_member(&self) {
        self.wake.notify_one();
    }

    pub(super) fn wake(&self) -> &Notify {
        &self.wake
    }

    pub(super) fn ack(&self, claim: Claim) -> Result<()> {
        self.settle(|state| state.ledger.ack(claim, Instant::now))
    }

    pub(super) fn nack(&self, claim: Claim, how: Redelivery) -> Result<()> {
        self.settle(|state| state.ledger.nack(claim, how, Instant::now()))
    }

    pub(super) fn extend(&self, claim: Claim, deadline: Duration) -> Result<()> {
        self.settle(|state| {
            let extended = state.ledger.extend(claim, Instant::now(), deadline);
            extended.map(|()| false)
        })
    }

    pub(super) fn abandon(&self, claim: Claim) {
        let _ = self.settle(|state| {
            state.ledger.abandon(claim);
            Ok(false)
        });
    }

    /// Changes the ledger, and tells whom the change concerns.
    fn settle(&self, change: impl FnOnce(&mut State) -> Result<bool, Lost>) -> Result<()> {
        let mut state = lock(&self.state);
        let due = state.ledger.due();
        let changed = change(&mut state);
        let roomy = state.full
            && state.ledger.held() <= self.options.max_unsettled / 2
            && state.ledger.held_bytes() <= self.options.max_unsettled_bytes / 2;
        if roomy {
            state.full = false;
        }
        let earlier = state
            .ledger
            .due()
            .is_some_and(|new| due.is_none_or(|old| new < old));
        let tell = earlier || state.draining;
        drop(state);
        if tell {
            self.tell_driver();
        }
        match changed {
            Ok(ready) => {
                if ready || roomy {
                    self.tell_member();
                }
                Ok(())
            }
            Err(Lost) => Err(self.lost()),
        }
    }

    pub(super) fn lost(&self) -> Error {
        Error::permanent("the delivery is no longer this member's")
            .with_code(Code::FailedPrecondition)
            .with_operation("event_bus.settle")
            .with_context("topic", &self.topic)
            .with_context("group", &self.id)
    }
}
