//! The thread behind a membership. It alone talks to the client, so that nothing here blocks a runtime and nothing a
//! handler does keeps the group waiting.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
    time::Duration,
};

use cqi_core::{Code, Error, Result};
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode as E,
};
use tokio::time::Instant;

use super::{
    callbacks::Callbacks,
    committer::Committer,
    group::{Group, Phase},
};
use crate::{
    client::{lock, millis, settings},
    error::{from_client, from_code},
    record::Decoder,
};

/// The longest sleep.
pub(super) const NAP: Duration = Duration::from_millis(100);
/// The pause before a new client is made, and between two of the same complaints.
const SLEEP: Duration = Duration::from_secs(1);

const CONSUME: &str = "event_bus.consume";

/// Starts the thread.
pub(super) fn start(group: &Arc<Group>) -> io::Result<()> {
    let own = Arc::clone(group);
    let driver = thread::Builder::new()
        .name("cqi-kafka".to_owned())
        .spawn(move || {
            drive(&own);
            own.remove_queues(None); // here, as this ends the client, which takes its time
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

pub(super) struct Driver {
    pub(super) group: Arc<Group>,
    pub(super) consumer: Arc<BaseConsumer<Callbacks>>,
    /// Partitions for which the group may have no position yet.
    pub(super) unplaced: Vec<i32>,
    /// Whether the group was there before; then a partition it does not know is new itself.
    pub(super) existed: bool,
    pub(super) committer: Committer,
    /// The partitions of the commit on its way.
    pub(super) commit: Option<Vec<i32>>,
    pub(super) committed_at: Instant,
    /// How the last one ended.
    pub(super) committed: KafkaResult<()>,
    /// Since when a revoked partition waits for what is out.
    pub(super) moving: Option<Instant>,
    /// Not before then is a question repeated that failed.
    pub(super) retry_at: Instant,
    pub(super) aside_at: Instant,
    /// Not before then are members sent to look without a reason.
    look_at: Instant,
    /// Why this client cannot go on, where that was said while a commit was waited for: it is said once.
    pub(super) ended: Option<Error>,
    /// Until then no further error is noted.
    pub(super) quiet_until: Instant,
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
            .set("fetch.error.backoff.ms", "100")
            .set("statistics.interval.ms", "2000"); // see `Brokers`
        let mut consumer: BaseConsumer<Callbacks> = config
            .create_with_context(Callbacks::default())
            .map_err(|error| from_client(&error, CONSUME))?;
        let driver = thread::current();
        consumer.set_nonempty_callback(move || driver.unpark());
        let now = Instant::now();
        let consumer = Arc::new(consumer);
        let committer = Committer::start(Arc::downgrade(&consumer), group.topic.clone())
            .map_err(|error| Error::temporary("no thread for commits").with_source(error))?;
        Ok(Self {
            group: Arc::clone(group),
            consumer,
            committer,
            unplaced: Vec::new(),
            existed: false,
            commit: None,
            committed_at: now,
            committed: Ok(()),
            ended: None,
            quiet_until: now,
            moving: None,
            retry_at: now,
            aside_at: now,
            look_at: now,
        })
    }

    fn work(mut self) -> Result<()> {
        // After a bug of ours the client is left in order, as it would else wait for us, and a new one goes on.
        let done = catch_unwind(AssertUnwindSafe(|| self.run()));
        let done = done.unwrap_or_else(|_| Err(Error::panicked("consumer's driver").with_operation(CONSUME)));
        self.end();
        done
    }

    fn run(&mut self) -> Result<()> {
        self.survey()?;
        self.subscribe()?;
        while !self.group.try_end() {
            let busy = self.serve()?;
            self.hear()?;
            self.shift();
            self.place_rest();
            self.keep_committed();
            self.step_aside()?;
            self.ended.take().map_or(Ok(()), Err)?;
            self.wait(busy);
        }
        Ok(())
    }

    fn subscribe(&self) -> Result<()> {
        self.consumer
            .subscribe(&[self.group.topic.as_str()])
            .map_err(|error| from_client(&error, CONSUME))
    }

    pub(super) fn callbacks(&self) -> &Callbacks {
        self.consumer.context()
    }

    /// Lets the client make its calls. Returns whether it did anything.
    pub(super) fn serve(&mut self) -> Result<bool> {
        let (mut busy, mut decoder) = (false, Decoder::default());
        loop {
            let calls = self.callbacks().calls.load(SeqCst);
            let consumer = Arc::clone(&self.consumer);
            match consumer.poll(Duration::ZERO) {
                // Before its partition had a queue of its own.
                Some(Ok(record)) => {
                    let event = decoder.event(&self.group.topic, &record);
                    let event = [(record.partition(), record.offset(), event)];
                    let ready = lock(&self.group.state).insert(event);
                    if ready {
                        self.group.tell_member();
                    }
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
            tracing::trace!(group = self.group.id, ?ended, "committed");
            self.committed = ended;
        }
        if self.callbacks().brokers.are_forgotten() {
            let error = Error::temporary("the client has forgotten all brokers");
            return Err(error.with_code(Code::Unavailable).with_operation(CONSUME));
        }
        Ok(busy)
    }

    /// Takes in what the client said to members.
    fn hear(&mut self) -> Result<()> {
        let complaints = std::mem::take(&mut lock(&self.group.state).complaints);
        complaints.iter().try_for_each(|error| self.complain(error))
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
            return Ok(());
        }
        let left_alone = !asked && now > state.asked + state.patience && !state.ledger.is_out(None, now);
        let ready = state.ledger.has_ready();
        drop(state);
        if left_alone && (ready || self.group.fetch(1).any) {
            lock(&self.group.state).aside = true;
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
    pub(super) fn complain(&mut self, error: &KafkaError) -> Result<()> {
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
            self.group
                .say(from_client(error, CONSUME).with_context("group", &self.group.id));
        }
        Ok(())
    }

    /// Sleeps until something happens.
    fn wait(&mut self, busy: bool) {
        let now = Instant::now();
        let mut state = lock(&self.group.state);
        let back = state.ledger.return_due(now);
        let mut until = now + NAP;
        until = state.ledger.due().map_or(until, |due| due.min(until));
        if state.idle && self.commit.is_none() {
            until = self.commit_due(&state).min(until);
        }
        drop(state);
        // Even when nothing is known to be there: the client has been seen not to say that it has something.
        if back || now >= self.look_at {
            self.look_at = now + NAP;
            self.group.tell_member();
        }
        if !busy {
            thread::park_timeout(until.saturating_duration_since(now));
        }
    }
}
