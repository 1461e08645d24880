//! A consumer group in this process. Its members share one inbox, so that events leave it in order.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicI64, AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use cqi_core::{
    Error, Result,
    event::{Acker, Delivery, Event, StartAt, Subscription},
    name::Topic,
};
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    acker::{Hold, NatsAcker},
    bus::Shared,
    consumer::{self, Begin},
    error,
    inbox::{Inbox, Step},
    link::lock,
    message::Place,
    share::{Held, Share},
    unsettled::Unsettled,
    wakers::Wakers,
};

/// A consumer, and what it has sent here.
pub(crate) struct Group {
    pub(crate) shared: Arc<Shared>,
    pub(crate) consumer: String,
    /// As the member that joined last wants it.
    subscription: Mutex<Subscription>,
    topic: Topic,
    /// The ack deadline in nanoseconds, read for each delivery.
    deadline: AtomicU64,
    /// Up to which event of the stream the group has settled everything, when last seen: where a consumer begins that
    /// has to be made again.
    pub(crate) floor: AtomicU64,
    /// Which stream that was, by the time it was made, in milliseconds.
    stream: AtomicI64,
    pub(crate) unsettled: Unsettled,
    pub(crate) state: Mutex<State>,
    wakers: Arc<Wakers>,
    /// Cancelled when the last member has left.
    pub(crate) left: CancellationToken,
    /// Cancelled when everything was handed back after that.
    pub(crate) gone: CancellationToken,
}

pub(crate) struct State {
    /// None after it was given up, until it is opened again.
    pub(crate) inbox: Option<Inbox>,
    /// Whether the inbox is away to have its messages handed back, and comes again. Nothing is asked for until then, or what
    /// is younger would come first.
    pub(crate) is_handing_back: bool,
    /// What the next reader has to hear.
    pub(crate) trouble: Option<Error>,
    /// The members, each by a number of its own.
    pub(crate) members: Vec<u64>,
    /// How many members are in `next`.
    pub(crate) readers: usize,
    /// Since when nobody reads.
    pub(crate) idle_since: Option<Instant>,
    /// Wakes all of `wakers`.
    pub(crate) waker: Waker,
}

impl State {
    pub(crate) fn give_up(&mut self, why: Error) {
        self.inbox = None;
        self.trouble = Some(why);
    }
}

impl Group {
    pub(crate) fn new(shared: &Arc<Shared>, consumer: String, subscription: Subscription) -> Arc<Self> {
        let wakers = Arc::new(Wakers::default());
        let deadline = in_nanos(subscription.ack_deadline);
        Arc::new(Self {
            shared: Arc::clone(shared),
            consumer,
            topic: subscription.topic.clone(),
            deadline: AtomicU64::new(deadline),
            subscription: Mutex::new(subscription),
            floor: AtomicU64::new(0),
            stream: AtomicI64::new(0),
            unsettled: Unsettled::new(shared.options.max_unsettled_bytes),
            state: Mutex::new(State {
                inbox: None,
                is_handing_back: false,
                trouble: None,
                members: Vec::new(),
                readers: 0,
                idle_since: Some(Instant::now()),
                waker: Waker::from(Arc::clone(&wakers)),
            }),
            wakers,
            left: CancellationToken::new(),
            gone: CancellationToken::new(),
        })
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_nanos(self.deadline.load(Acquire))
    }

    /// Until when a delivery of that moment is ours, in nanoseconds of [`Shared::nanos`].
    pub(crate) fn until(&self, since: Instant) -> u64 {
        self.shared
            .nanos(since)
            .saturating_add(self.deadline.load(Acquire))
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn left(&self) -> &CancellationToken {
        &self.left
    }

    pub(crate) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Makes sure of the consumer for a member that joins.
    pub(crate) async fn join(&self, subscription: Subscription) -> Result<()> {
        let begin = Begin::At(subscription.start_at);
        let joined = self.ensure(&subscription, begin, stream_made(&self.shared)).await;
        if joined.as_ref().is_err_and(Error::is_not_found) {
            self.shared.ensure_stream().await?;
            self.ensure(&subscription, begin, stream_made(&self.shared))
                .await?;
        } else {
            joined?;
        }
        self.deadline.store(in_nanos(subscription.ack_deadline), Release);
        *lock(&self.subscription) = subscription;
        Ok(())
    }

    /// Opens the inbox, again after trouble: stream and consumer may have gone.
    pub(crate) async fn open(&self, connection: u64) -> Result<()> {
        let subscription = lock(&self.subscription).clone();
        self.shared.ensure_stream().await?;
        let made = stream_made(&self.shared);
        // All events of a stream that was made since are younger than the group.
        let begin = if made == self.stream.load(Acquire) {
            Begin::After(self.floor.load(Acquire))
        } else {
            Begin::At(StartAt::Oldest)
        };
        self.ensure(&subscription, begin, made).await?;
        self.open_inbox(connection).await
    }

    /// Opens the inbox, unless it is there or comes again.
    pub(crate) async fn open_inbox(&self, connection: u64) -> Result<()> {
        let is_there = |state: &State| state.inbox.is_some() || state.is_handing_back;
        if is_there(&lock(&self.state)) {
            return Ok(());
        }
        let inbox = Inbox::open(self, connection).await?;
        let mut state = lock(&self.state);
        if !self.left.is_cancelled() && !is_there(&state) {
            state.inbox = Some(inbox);
        }
        Ok(())
    }

    async fn ensure(&self, subscription: &Subscription, begin: Begin, made: i64) -> Result<()> {
        let Shared { link, options, .. } = &*self.shared;
        let floor = consumer::ensure(link, options, &self.consumer, subscription, begin).await?;
        self.stream.store(made, Release);
        self.floor.store(floor, Release);
        Ok(())
    }

    /// Adds a member, known by this number.
    pub(crate) fn add(&self, member: u64) {
        lock(&self.state).members.push(member);
    }

    /// Takes a member out; says whether it was the last one.
    pub(crate) fn remove(&self, member: u64) -> bool {
        let mut state = lock(&self.state);
        state.members.retain(|other| *other != member);
        self.wakers.wake_by_ref(); // what was the member's is for others now
        state.members.is_empty()
    }

    /// Reads what has arrived, and says what a member that wants `max` messages has to do next. When that is waiting,
    /// `context` is woken for more.
    pub(crate) fn step(
        &self,
        context: &Context<'_>,
        connection: u64,
        member: u64,
        max: usize,
    ) -> Result<Step> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        // What arrived while nobody read may be as old as that.
        let since = state.idle_since.take().unwrap_or_else(Instant::now);
        if let Some(error) = state.trouble.take() {
            return Err(error);
        }
        let Some(inbox) = &mut state.inbox else {
            if state.is_handing_back {
                self.wakers.add(context.waker());
                return Ok(Step::Wait);
            }
            return Ok(Step::Open);
        };
        if inbox.connection < connection {
            inbox.forget_pulls(connection);
        }
        let share = share(&state.members, member);
        let read = |inbox: &mut Inbox| {
            let more = inbox.read(&mut Context::from_waker(&state.waker), since)?;
            if more && share.of > 1 {
                self.wakers.wake_by_ref(); // some may be for others
            }
            Ok(match inbox.step(share, max) {
                Step::Pull if self.unsettled.is_full() => Step::Wait,
                step => step,
            })
        };
        let mut step = read(inbox);
        if matches!(step, Ok(Step::Wait)) {
            self.wakers.add(context.waker());
            step = read(inbox); // what came before that woke nobody
        }
        if step.is_err() {
            state.inbox = None;
        }
        step
    }

    /// So many bytes are no longer unsettled: members that wait for room are woken.
    pub(crate) fn put_down(&self, bytes: usize) {
        if self.unsettled.take_off(bytes) {
            self.wakers.wake_by_ref();
        }
    }

    /// Whether there is one member only.
    pub(crate) fn is_alone(&self) -> bool {
        lock(&self.state).members.len() == 1
    }

    /// Does something with the inbox, if there is one.
    pub(crate) fn with_inbox<T>(&self, work: impl FnOnce(&mut Inbox) -> T) -> Option<T> {
        lock(&self.state).inbox.as_mut().map(work)
    }

    /// Gives the inbox up; the next reader hears why and opens it again.
    pub(crate) fn give_up(&self, why: Error) {
        lock(&self.state).give_up(why);
        self.wakers.wake_by_ref();
    }

    /// Forgets what was asked for if nothing came since `silence`; returns when to look again. What has come stays, and
    /// asking again finds out whether the consumer is still there.
    pub(crate) fn check_silence(&self, silence: Duration) -> Instant {
        let now = Instant::now();
        {
            let mut state = lock(&self.state);
            let Some(inbox) = &mut state.inbox else {
                return now + silence;
            };
            match inbox.quiet_until(silence) {
                Some(until) if until <= now => inbox.forget_pulls(inbox.connection),
                until => return until.unwrap_or(now + silence),
            }
            state.trouble = Some(self.shared.link.at(error::silent()));
        }
        self.wakers.wake_by_ref();
        now + silence
    }

    /// The member's first `max` messages as deliveries.
    pub(crate) fn take(self: &Arc<Self>, member: u64, max: usize) -> Vec<Delivery> {
        let now = self.shared.nanos(Instant::now());
        let held = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let share = share(&state.members, member);
            let taken = state.inbox.as_mut().map(|inbox| inbox.take(share, max));
            taken.unwrap_or_default()
        };
        if !held.is_empty() && !self.is_alone() {
            self.wakers.wake_by_ref(); // less lies here for others: they may ask for more
        }
        let (mut events, mut holds) = (Vec::with_capacity(held.len()), Vec::with_capacity(held.len()));
        for held in held {
            if let Some((event, attempt, hold)) = self.receive(held, now) {
                events.push((event, attempt));
                holds.push(hold);
            }
        }
        let acker: Arc<dyn Acker> = Arc::new(NatsAcker::new(Arc::clone(self), holds));
        Delivery::batch(&acker, events)
    }

    /// An event with the attempt and our hold on it, unless it is no longer ours.
    fn receive(&self, held: Held, now: u64) -> Option<(Event, u32, Hold)> {
        let (until, released) = (self.until(held.since), held.released?);
        if now >= until {
            tracing::debug!(
                consumer = self.consumer,
                "a message waited past its deadline and is left to others"
            );
            return None;
        }
        let Place {
            delivered, sequence, ..
        } = held.place;
        let hold = Hold::new(held.reply, sequence, released, held.bytes, until);
        Some((held.event, delivered.saturating_sub(released).max(1), hold))
    }

    /// Finds out how often the member's first `max` messages were released, where that matters.
    pub(crate) async fn look_up_releases(&self, member: u64, max: usize) -> Result<()> {
        let share = share(&lock(&self.state).members, member);
        let unknown = self
            .with_inbox(|inbox| inbox.unknown(share, max))
            .unwrap_or_default();
        if unknown.is_empty() {
            return Ok(());
        }
        let counts = join_all(unknown.iter().map(|sequence| self.releases(*sequence))).await;
        for (sequence, count) in unknown.into_iter().zip(counts) {
            let count = count?;
            self.with_inbox(|inbox| inbox.learn(sequence, count));
        }
        Ok(())
    }

    pub(crate) async fn releases(&self, sequence: u64) -> Result<u32> {
        self.shared
            .released
            .count(&self.shared.link, &self.consumer, sequence)
            .await
    }

    /// Notes that a delivery is released once more.
    pub(crate) async fn note_release(&self, sequence: u64, released: u32) {
        let Shared {
            link,
            released: counts,
            ..
        } = &*self.shared;
        counts.note(link, &self.consumer, sequence, released + 1).await;
    }
}

fn in_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn stream_made(shared: &Shared) -> i64 {
    i64::try_from(shared.facts().created / 1_000_000).unwrap_or_default()
}

fn share(members: &[u64], member: u64) -> Share {
    Share {
        index: members.iter().position(|other| *other == member).unwrap_or(0),
        of: members.len().max(1),
    }
}
