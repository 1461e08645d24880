//! The thread behind a membership. It alone talks to the client, so that nothing here blocks a runtime and nothing a
//! handler does keeps the group waiting.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use cqi_core::{Error, Result, event::StartAt};
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer as _, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode as E,
};

use super::{
    callbacks::{Callbacks, Move, agree},
    committer::Committer,
    group::{Group, Phase},
    ledger::{Clock, Position},
    placing,
};
use crate::{
    client::{lock, millis, settings},
    error::{from_client, from_code},
    record,
};

/// How often settled events are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// How long a commit may take that something waits for.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest sleep with something in hand, and without.
const NAP: Duration = Duration::from_millis(100);
const SLEEP: Duration = Duration::from_secs(1);
/// How many records are taken from one partition before the others have their turn.
const TURN: usize = 256;

const CONSUME: &str = "event_bus.consume";

/// Starts the thread.
pub(super) fn start(group: &Arc<Group>) -> io::Result<()> {
    let own = Arc::clone(group);
    let driver = thread::Builder::new()
        .name("cqi-kafka".to_owned())
        .spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| drive(&own))).is_err() {
                tracing::error!(group = own.id, "the consumer's driver panicked");
                own.fail(Error::panicked("the consumer's driver").with_operation(CONSUME));
            }
            own.phase.send_replace(Phase::Left);
            own.wake().notify_waiters();
        })?;
    group.set_driver(driver.thread().clone());
    Ok(())
}

/// Works until the membership ends; a client that is beyond help is replaced.
fn drive(group: &Arc<Group>) {
    loop {
        let Err(error) = Driver::new(group).and_then(Driver::work) else {
            return;
        };
        tracing::warn!(group = group.id, error = %error.chain(), "consumer failed, a new one is made");
        group.fail(error);
        let until = Instant::now() + SLEEP;
        while Instant::now() < until {
            if group.try_end() {
                return;
            }
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

struct Driver {
    group: Arc<Group>,
    queues: Vec<(i32, PartitionQueue<Callbacks>)>,
    consumer: Arc<BaseConsumer<Callbacks>>,
    /// Partitions for which the group may have no position yet.
    unplaced: Vec<i32>,
    /// Whether the group was there before; then a partition it does not know is new itself.
    existed: bool,
    committer: Committer,
    /// The partitions of the commit on its way.
    commit: Option<Vec<i32>>,
    committed_at: Instant,
    /// How the last one ended.
    committed: KafkaResult<()>,
    /// Since when a revoked partition waits for what is out.
    moving: Option<Instant>,
    /// Not before then is a question repeated that failed.
    retry_at: Instant,
    aside_at: Instant,
    /// Until then no further error is noted.
    quiet_until: Instant,
}

impl Driver {
    fn new(group: &Arc<Group>) -> Result<Self> {
        let options = &group.options;
        let mut config = settings(options);
        let heartbeat = (options.session_timeout / 15).min(Duration::from_secs(3));
        config
            .set("group.id", &group.id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // A committed position that retention has overtaken: go on with the oldest that is kept.
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", millis(options.session_timeout))
            .set("heartbeat.interval.ms", millis(heartbeat))
            .set(
                "max.poll.interval.ms",
                millis(options.session_timeout.max(Duration::from_secs(60))),
            )
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100");
        let mut consumer: BaseConsumer<Callbacks> = config
            .create_with_context(Callbacks::default())
            .map_err(|error| from_client(error, CONSUME))?;
        let driver = thread::current();
        consumer.set_nonempty_callback(move || driver.unpark());
        let now = Instant::now();
        let consumer = Arc::new(consumer);
        let committer = Committer::start(Arc::downgrade(&consumer), group.topic.clone())
            .map_err(|error| Error::temporary("no thread for commits").with_source(error))?;
        Ok(Self {
            group: Arc::clone(group),
            queues: Vec::new(),
            consumer,
            committer,
            unplaced: Vec::new(),
            existed: false,
            commit: None,
            committed_at: now,
            committed: Ok(()),
            quiet_until: now,
            moving: None,
            retry_at: now,
            aside_at: now,
        })
    }

    fn work(mut self) -> Result<()> {
        let done = self.survey().and_then(|()| {
            self.subscribe()?;
            while !self.group.try_end() {
                let mut busy = self.serve()?;
                busy |= self.fetch()?;
                self.shift();
                self.place_rest();
                self.keep_committed();
                self.step_aside()?;
                self.wait(busy);
            }
            Ok(())
        });
        self.end();
        done
    }

    fn subscribe(&self) -> Result<()> {
        self.consumer
            .subscribe(&[self.group.topic.as_str()])
            .map_err(|error| from_client(error, CONSUME))
    }

    fn callbacks(&self) -> &Callbacks {
        self.consumer.context()
    }

    /// Finds out whether the group exists.
    fn survey(&mut self) -> Result<()> {
        while !self.group.try_end() {
            let topic = &self.group.topic;
            let asked = placing::partitions(&self.consumer, topic)
                .and_then(|partitions| placing::committed(&self.consumer, topic, &partitions));
            match asked {
                Ok(all) => {
                    self.unplaced = all
                        .iter()
                        .filter(|(_, at)| at.is_none())
                        .map(|(partition, _)| *partition)
                        .collect();
                    self.existed = self.unplaced.len() < all.len();
                    self.ready_if_placed();
                    return Ok(());
                }
                Err(error) => {
                    self.complain(&error)?;
                    thread::park_timeout(NAP);
                }
            }
        }
        Ok(())
    }

    fn ready_if_placed(&mut self) {
        if self.unplaced.is_empty() {
            self.existed = true;
            self.group.set_ready();
        }
    }

    /// While the group comes into being, other members place the partitions they got.
    fn place_rest(&mut self) {
        let now = Instant::now();
        if self.unplaced.is_empty() || now < self.retry_at {
            return;
        }
        self.retry_at = now + NAP;
        if let Ok(all) = placing::committed(&self.consumer, &self.group.topic, &self.unplaced) {
            self.unplaced = all
                .into_iter()
                .filter(|(_, at)| at.is_none())
                .map(|(partition, _)| partition)
                .collect();
            self.ready_if_placed();
        }
    }

    /// Lets the client make its calls. Returns whether it did anything.
    fn serve(&mut self) -> Result<bool> {
        let mut busy = false;
        loop {
            let calls = self.callbacks().calls.load(SeqCst);
            let consumer = Arc::clone(&self.consumer);
            match consumer.poll(Duration::ZERO) {
                // Before its partition had a queue of its own.
                Some(Ok(record)) => {
                    let event = record::event(&self.group.topic, &record);
                    self.insert([(record.partition(), record.offset(), event)]);
                }
                Some(Err(error)) => self.complain(&error)?,
                None if self.callbacks().calls.load(SeqCst) == calls => break,
                None => {}
            }
            busy = true;
        }
        if let Some(ended) = self.committer.answer()
            && let Some(partitions) = self.commit.take()
        {
            if let Err(error) = &ended {
                tracing::debug!(group = self.group.id, %error, "commit failed, it is repeated");
                let mut state = lock(&self.group.state);
                partitions
                    .into_iter()
                    .for_each(|partition| state.ledger.commit_again(partition));
            }
            self.committed = ended;
        }
        Ok(busy)
    }

    /// Takes what was fetched, as far as there is room. Returns whether there was anything.
    fn fetch(&mut self) -> Result<bool> {
        let (held, bytes) = {
            let state = lock(&self.group.state);
            (state.ledger.held(), state.ledger.held_bytes())
        };
        let mut room = self.group.options.max_unsettled.saturating_sub(held);
        let mut room_bytes = self.group.options.max_unsettled_bytes.saturating_sub(bytes);
        let (mut batch, mut errors) = (Vec::new(), Vec::new());
        for (partition, queue) in &self.queues {
            for _ in 0..TURN {
                if room == 0 || room_bytes == 0 {
                    break;
                }
                match queue.poll(Duration::ZERO) {
                    Some(Ok(record)) => {
                        let event = record::event(&self.group.topic, &record);
                        room -= 1;
                        room_bytes = room_bytes.saturating_sub(event.size());
                        batch.push((*partition, record.offset(), event));
                    }
                    Some(Err(error)) => errors.push(error),
                    None => break,
                }
            }
        }
        if room == 0 || room_bytes == 0 {
            lock(&self.group.state).full = true;
        }
        let any = !batch.is_empty();
        self.insert(batch);
        errors.iter().try_for_each(|error| self.complain(error))?;
        Ok(any)
    }

    fn insert(&self, batch: impl IntoIterator<Item = (i32, i64, cqi_core::event::Event)>) {
        let clock = Clock::now();
        let mut ready = false;
        let mut state = lock(&self.group.state);
        for (partition, offset, event) in batch {
            ready |= state.ledger.insert(partition, offset, event, clock);
        }
        drop(state);
        if ready {
            self.group.tell_member();
        }
    }

    /// Carries out what the group has decided about partitions.
    fn shift(&mut self) {
        loop {
            let now = Instant::now();
            let change = lock(&self.callbacks().moves).front().cloned();
            let done = match &change {
                None => return,
                Some(Move::Assign(partitions)) => now >= self.retry_at && self.assign(partitions),
                Some(Move::Revoke(partitions)) => self.revoke(partitions, now),
            };
            if !done {
                return;
            }
            lock(&self.callbacks().moves).pop_front();
        }
    }

    /// Begins to fetch from partitions. Returns whether that is done.
    fn assign(&mut self, partitions: &[i32]) -> bool {
        let change = Move::Assign(partitions.to_vec());
        if partitions.is_empty() {
            agree(&self.consumer, &change, &placing::list(&self.group.topic, &[]));
            return true;
        }
        let positions = match self.place(partitions) {
            Ok(positions) => positions,
            Err(error) => {
                tracing::debug!(group = self.group.id, %error, "positions are not known yet");
                self.retry_at = Instant::now() + NAP;
                return false;
            }
        };
        {
            let mut state = lock(&self.group.state);
            for Position {
                partition,
                offset,
                notes,
            } in &positions
            {
                state.ledger.own(*partition, *offset, notes);
            }
        }
        for partition in partitions {
            self.queues.retain(|(own, _)| own != partition);
            // Each has a queue of its own: what nobody has room for stays in the client, which then fetches no more.
            if let Some(mut queue) = self
                .consumer
                .split_partition_queue(self.group.topic.as_str(), *partition)
            {
                let driver = thread::current();
                queue.set_nonempty_callback(move || driver.unpark());
                self.queues.push((*partition, queue));
            }
        }
        if let Ok(list) = placing::positioned(&self.group.topic, &positions, false) {
            agree(&self.consumer, &change, &list);
        }
        self.unplaced.retain(|partition| !partitions.contains(partition));
        self.ready_if_placed();
        true
    }

    /// Where `partitions` go on; those that have no position get one, which is committed before anything else happens.
    fn place(&mut self, partitions: &[i32]) -> Result<Vec<Position>, KafkaError> {
        let topic = self.group.topic.clone();
        let start_at = if self.existed {
            StartAt::Oldest
        } else {
            self.group.start_at
        };
        let (mut positions, mut firsts) = (Vec::new(), Vec::new());
        for (partition, position) in placing::committed(&self.consumer, &topic, partitions)? {
            match position {
                Some(position) => positions.push(position),
                None => firsts.push(placing::first(&self.consumer, &topic, partition, start_at)?),
            }
        }
        if !firsts.is_empty() {
            self.commit_now(&firsts)?;
            positions.append(&mut firsts);
        }
        Ok(positions)
    }

    /// Lets go of partitions: what is out may still be settled for a while, then all is committed. Returns whether that
    /// is done.
    fn revoke(&mut self, partitions: &[i32], now: Instant) -> bool {
        let lost = self.consumer.assignment_lost();
        if !lost {
            let since = *self.moving.get_or_insert(now);
            let mut state = lock(&self.group.state);
            partitions
                .iter()
                .for_each(|partition| state.ledger.stop(*partition));
            let patient = now < since + self.group.options.handover_timeout && !state.closed;
            state.draining = patient && state.ledger.is_out(Some(partitions), now);
            if state.draining {
                return false;
            }
            let positions = state.ledger.positions(Some(partitions), Clock::now());
            // What is settled from now on would not be in the commit, and must not be said to be settled.
            partitions
                .iter()
                .for_each(|partition| state.ledger.forget(*partition));
            drop(state);
            if let Err(error) = self.commit_now(&positions) {
                tracing::warn!(group = self.group.id, %error, "partitions go on without the last commit: events come again");
            }
        }
        self.moving = None;
        let mut state = lock(&self.group.state);
        partitions
            .iter()
            .for_each(|partition| state.ledger.forget(*partition));
        drop(state);
        self.queues.retain(|(own, _)| !partitions.contains(own));
        let list = placing::list(&self.group.topic, partitions);
        agree(&self.consumer, &Move::Revoke(partitions.to_vec()), &list);
        true
    }

    /// Commits now and then.
    fn keep_committed(&mut self) {
        let now = Instant::now();
        if self.commit.is_some() || now < self.committed_at + COMMIT_EVERY {
            return;
        }
        let positions = lock(&self.group.state).ledger.positions(None, Clock::now());
        if !positions.is_empty() {
            self.start_commit(positions);
        }
    }

    fn start_commit(&mut self, positions: Vec<Position>) {
        let partitions = positions.iter().map(|position| position.partition).collect();
        self.committed_at = Instant::now();
        self.commit = Some(partitions);
        self.committer.begin(positions);
    }

    /// Commits and waits for the answer. There is one commit at a time, so that answers are not taken for each other.
    fn commit_now(&mut self, positions: &[Position]) -> Result<(), KafkaError> {
        let until = Instant::now() + COMMIT_TIMEOUT;
        let mut answer = Ok(());
        while !positions.is_empty() {
            if self.commit.is_some() {
                let _ = self.answer(until)?; // of an earlier one: whatever it says, this one says more
            }
            self.start_commit(positions.to_vec());
            answer = self.answer(until)?;
            // While a group rebalances, its coordinator may refuse for a moment.
            if answer.is_ok() || Instant::now() + NAP >= until {
                break;
            }
            thread::sleep(NAP / 4);
        }
        answer
    }

    /// The answer to the commit on its way; an error when it does not come in time.
    fn answer(&mut self, until: Instant) -> Result<KafkaResult<()>, KafkaError> {
        loop {
            if self.serve().is_err() || Instant::now() >= until {
                return Err(KafkaError::ConsumerCommit(E::OperationTimedOut));
            }
            if self.commit.is_none() {
                return Ok(std::mem::replace(&mut self.committed, Ok(())));
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// A member that nobody asks, with events that nobody runs, gives its partitions to members that are asked, and takes
    /// part again when it is asked itself.
    fn step_aside(&mut self) -> Result<()> {
        let now = Instant::now();
        let asked = self.group.waiting.load(SeqCst) > 0;
        let mut state = lock(&self.group.state);
        if state.aside {
            if asked || state.asked > self.aside_at {
                state.aside = false;
                drop(state);
                self.subscribe()?;
            }
        } else if !asked
            && state.ledger.has_ready()
            && now > state.asked + state.patience
            && !state.ledger.is_out(None, now)
        {
            state.aside = true;
            drop(state);
            self.aside_at = now;
            tracing::info!(
                group = self.group.id,
                "nobody asks for events: other members may have them"
            );
            self.consumer.unsubscribe();
        }
        Ok(())
    }

    /// Notes an error of the client for the next member that asks.
    ///
    /// # Errors
    /// The error, when this client cannot go on.
    fn complain(&mut self, error: &KafkaError) -> Result<()> {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            return Err(from_code(*code, CONSUME));
        }
        let passing = error.rdkafka_error_code().is_none_or(|code| {
            matches!(
                code,
                E::PartitionEOF
                    | E::BrokerTransportFailure
                    | E::Resolve
                    | E::OperationTimedOut
                    | E::PollExceeded
            )
        });
        tracing::debug!(group = self.group.id, %error, passing, "consumer says");
        if !passing && Instant::now() >= self.quiet_until {
            self.quiet_until = Instant::now() + SLEEP; // the same again and again helps nobody
            lock(&self.group.state).error =
                Some(from_client(error.clone(), CONSUME).with_context("group", &self.group.id));
            self.group.tell_member();
        }
        Ok(())
    }

    /// Sleeps until something happens.
    fn wait(&mut self, busy: bool) {
        let now = Instant::now();
        let mut state = lock(&self.group.state);
        let back = state.ledger.return_due(now);
        let calm = state.ledger.held() == 0
            && !state.ledger.is_dirty()
            && self.unplaced.is_empty()
            && lock(&self.callbacks().moves).is_empty();
        let due = state.ledger.due();
        drop(state);
        if back {
            self.group.tell_member();
        }
        if busy {
            return;
        }
        let longest = if calm && self.commit.is_none() { SLEEP } else { NAP };
        thread::park_timeout(due.map_or(longest, |due| longest.min(due.saturating_duration_since(now))));
    }

    /// Commits the last state and leaves the group.
    fn end(mut self) {
        let positions = {
            let mut state = lock(&self.group.state);
            let positions = state.ledger.positions(None, Clock::now());
            state.ledger.clear(); // what is settled from now on is settled too late
            positions
        };
        if !self.consumer.assignment_lost()
            && let Err(error) = self.commit_now(&positions)
        {
            tracing::warn!(group = self.group.id, %error, "left without the last commit: events come again");
        }
        self.callbacks().closing.store(true, SeqCst);
        for change in std::mem::take(&mut *lock(&self.callbacks().moves)) {
            let (Move::Assign(partitions) | Move::Revoke(partitions)) = &change;
            agree(
                &self.consumer,
                &change,
                &placing::list(&self.group.topic, partitions),
            );
        }
        self.queues.clear();
        // Dropping the client leaves the group, and lasts until the broker has answered.
    }
}
