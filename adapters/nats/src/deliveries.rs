//! A member of a group.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicI64, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use cqi_core::{
    Result,
    event::{Deliveries, Delivery, Subscription},
    name::Topic,
};
use futures::future::join_all;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    acker::NatsAcker,
    bus::Shared,
    consumer::{self, Begin},
    error,
    inbox::{Held, Inbox, SILENCE},
    link::lock,
    message,
};

/// How long `next` waits for a lost connection before it says so.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How often a member looks how far its group is.
const LOOK_AT_FLOOR: Duration = Duration::from_secs(30);

/// A group as one member sees it.
pub(crate) struct Group {
    pub(crate) shared: Arc<Shared>,
    pub(crate) consumer: String,
    subscription: Subscription,
    /// Up to which event of the stream the group has settled everything, when last seen. Where a consumer begins that has
    /// to be made again.
    floor: AtomicU64,
    /// Which stream that was, by the time it was made, in milliseconds.
    stream: AtomicI64,
}

impl Group {
    pub(crate) fn deadline(&self) -> Duration {
        self.subscription.ack_deadline
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.subscription.topic
    }

    /// Notes that a delivery is released once more.
    pub(crate) async fn note_release(&self, sequence: u64, released: u32) {
        let shared = &self.shared;
        shared.released.note(&shared.link, &self.consumer, sequence, released + 1).await;
    }

    /// Makes sure of stream and consumer.
    async fn ensure(&self, begin: Option<Begin>) -> Result<()> {
        let shared = &self.shared;
        let (begin, made) = match begin {
            Some(begin) => (begin, stream_made(shared)),
            None => {
                shared.ensure_stream().await?;
                let made = stream_made(shared);
                // All events of a stream that was made since are younger than the group.
                let same = made == self.stream.load(Acquire);
                (Begin::After(if same { self.floor.load(Acquire) } else { 0 }), made)
            }
        };
        let floor =
            consumer::ensure(&shared.link, &shared.options, &self.consumer, &self.subscription, begin).await?;
        self.stream.store(made, Release);
        self.floor.store(floor, Release);
        Ok(())
    }

    /// Gives messages back that nobody has tried.
    async fn give_back(self: &Arc<Self>, held: Vec<Held>) {
        if held.is_empty() {
            return;
        }
        tracing::debug!(consumer = self.consumer, messages = held.len(), "handing back messages that were not taken");
        join_all(held.into_iter().map(async |held| {
            let Some(reply) = held.message.reply else { return };
            let released = match held.released {
                Some(released) => Ok(released),
                None => self.releases(held.place.sequence).await,
            };
            let Ok(released) = released else { return }; // it comes back when its deadline passes
            let acker = NatsAcker::new(Arc::clone(self), reply, held.place.sequence, released, held.since);
            let _ = cqi_core::event::Acker::nack(&acker, cqi_core::event::Redelivery::Release).await;
        }))
        .await;
    }

    async fn releases(&self, sequence: u64) -> Result<u32> {
        self.shared.released.count(&self.shared.link, &self.consumer, sequence).await
    }

    /// A message as a delivery, unless it is no longer ours.
    fn deliver(self: &Arc<Self>, held: Held, now: Instant) -> Option<Delivery> {
        let Held {
            mut message,
            place,
            since,
            released,
        } = held;
        let (reply, released) = (message.reply.take()?, released?);
        if now.duration_since(since) >= self.deadline() {
            tracing::debug!(consumer = self.consumer, "a message waited past its deadline and is left to others");
            return None;
        }
        let event = message::event(message, self.topic().clone(), &self.shared.options.stream.name, place);
        let attempt = place.delivered.saturating_sub(released).max(1);
        let acker = NatsAcker::new(Arc::clone(self), reply, place.sequence, released, since);
        Some(Delivery::new(event, attempt, Arc::new(acker)))
    }
}

fn stream_made(shared: &Shared) -> i64 {
    i64::try_from(shared.facts().created / 1_000_000).unwrap_or_default()
}

/// One member, shared with the task that looks after what it does not take.
struct Member {
    group: Arc<Group>,
    /// How many members the group has in this bus.
    members: Arc<AtomicUsize>,
    state: Mutex<State>,
    left: CancellationToken,
    /// Cancelled when everything was handed back.
    gone: CancellationToken,
}

struct State {
    /// None after trouble, until it is opened again.
    inbox: Option<Inbox>,
    /// Since when nobody reads; none while `next` is under way.
    idle_since: Option<Instant>,
}

/// What `next` has to do.
enum Step {
    Take,
    Pull,
    Open,
    Wait,
}

impl Member {
    /// Reads what has arrived and says what to do next.
    fn step(&self, context: &mut Context<'_>, connection: u64) -> Result<Step> {
        let mut state = lock(&self.state);
        // What arrived while nobody read may be as old as that.
        let since = state.idle_since.take().unwrap_or_else(Instant::now);
        let Some(inbox) = &mut state.inbox else { return Ok(Step::Open) };
        if inbox.connection != connection {
            inbox.forget_pulls(connection);
        }
        if let Err(error) = inbox.read(context, since) {
            state.inbox = None;
            return Err(error);
        }
        Ok(if !inbox.buffer.is_empty() {
            Step::Take
        } else if inbox.is_idle() {
            Step::Pull
        } else {
            Step::Wait
        })
    }

    /// What has waited for `beat` without anybody asking.
    fn forsaken(&self, beat: Duration) -> Vec<Held> {
        let mut state = lock(&self.state);
        let Some(since) = state.idle_since.filter(|since| since.elapsed() >= beat) else {
            return Vec::new();
        };
        let Some(inbox) = &mut state.inbox else { return Vec::new() };
        // Nobody waits for this wake-up: `next` reads before it waits. An error is met again there.
        let _ = inbox.read(&mut Context::from_waker(Waker::noop()), since);
        let forsaken = inbox.buffer.drain(..).collect();
        state.idle_since = Some(Instant::now() - beat);
        forsaken
    }

    /// Hands back what nobody takes, and in the end everything.
    async fn keep(self: Arc<Self>) {
        let group = &self.group;
        let beat = (group.deadline() / 3).clamp(Duration::from_millis(50), Duration::from_secs(10));
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                () = self.left.cancelled() => break,
                () = group.shared.closing.cancelled() => break,
                () = sleep(beat) => {}
            }
            group.give_back(self.forsaken(beat)).await;
            if looked.elapsed() >= LOOK_AT_FLOOR {
                looked = Instant::now();
                self.look_at_floor().await;
            }
        }
        let inbox = lock(&self.state).inbox.take();
        if let Some(mut inbox) = inbox {
            inbox.stop(group.shared.options.publish_timeout).await;
            let since = lock(&self.state).idle_since.unwrap_or_else(Instant::now);
            let _ = inbox.read(&mut Context::from_waker(Waker::noop()), since);
            group.give_back(inbox.buffer.into()).await;
        }
        self.members.fetch_sub(1, AcqRel);
        self.gone.cancel();
    }

    async fn look_at_floor(&self) {
        let group = &self.group;
        let (link, options) = (&group.shared.link, &group.shared.options);
        let found = consumer::look(link, &options.stream.name, &group.consumer, options.publish_timeout).await;
        if let Ok(Some(info)) = found {
            group.floor.fetch_max(info.ack_floor.stream_sequence, AcqRel);
        }
    }
}

/// Marks that somebody reads, and that nobody does when it ends, however it ends.
struct Reading<'a>(&'a Member);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).idle_since = Some(Instant::now());
    }
}

/// A member's end of the subscription.
pub(crate) struct NatsDeliveries {
    member: Arc<Member>,
    opened: watch::Receiver<u64>,
    /// When to look whether the server still knows our pull; kept between calls.
    silence: Pin<Box<Sleep>>,
}

impl NatsDeliveries {
    pub(crate) async fn join(shared: &Arc<Shared>, consumer: String, subscription: Subscription) -> Result<Self> {
        let begin = Begin::At(subscription.start_at);
        let group = Group {
            shared: Arc::clone(shared),
            consumer,
            subscription,
            floor: AtomicU64::new(0),
            stream: AtomicI64::new(0),
        };
        group.ensure(Some(begin)).await?;
        let opened = shared.link.opened();
        let connection = *opened.borrow();
        let inbox = Inbox::open(shared, &group.consumer, connection).await?;
        let members = shared.members(&group.consumer);
        members.fetch_add(1, AcqRel);
        let member = Arc::new(Member {
            group: Arc::new(group),
            members,
            state: Mutex::new(State {
                inbox: Some(inbox),
                idle_since: Some(Instant::now()),
            }),
            left: CancellationToken::new(),
            gone: CancellationToken::new(),
        });
        shared.tasks.spawn(Arc::clone(&member).keep());
        Ok(Self {
            member,
            opened,
            silence: Box::pin(sleep(SILENCE)),
        })
    }

    fn shared(&self) -> &Shared {
        &self.member.group.shared
    }

    /// Opens the inbox again after trouble.
    async fn open(&mut self) -> Result<()> {
        self.wait_for_connection().await?;
        let group = &self.member.group;
        group.ensure(None).await?;
        let connection = *self.opened.borrow_and_update();
        let inbox = Inbox::open(&group.shared, &group.consumer, connection).await?;
        tracing::info!(consumer = group.consumer, "subscription opened again");
        lock(&self.member.state).inbox = Some(inbox);
        Ok(())
    }

    /// Asks the server for up to `max` messages.
    async fn pull(&mut self, max: usize) -> Result<()> {
        self.wait_for_connection().await?;
        let shared = &self.member.group.shared;
        let max_payload = shared.link.client().max_payload();
        let pull = lock(&self.member.state).inbox.as_mut().map(|inbox| inbox.pull(max, max_payload));
        let Some((subject, reply, request)) = pull else { return Ok(()) };
        let told = shared.link.tell(subject, Some(reply), request, shared.options.publish_timeout).await;
        if told.is_err()
            && let Some(inbox) = &mut lock(&self.member.state).inbox
        {
            inbox.not_sent(max);
        }
        told
    }

    async fn wait_for_connection(&mut self) -> Result<()> {
        let link = &self.member.group.shared.link;
        if link.is_up() {
            return Ok(());
        }
        let back = timeout(RECONNECT_PATIENCE, self.opened.changed()).await;
        if back.is_ok() || link.is_up() {
            return Ok(());
        }
        Err(link.at(error::down()))
    }

    /// Waits until there is something to do, or the server has been silent for too long.
    async fn wait(&mut self) -> Result<()> {
        let Self {
            member,
            opened,
            silence,
        } = self;
        let connection = *opened.borrow_and_update();
        let something = poll_fn(|context| match member.step(context, connection) {
            Ok(Step::Wait) => Poll::Pending,
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        });
        tokio::select! {
            biased;
            something = something => something,
            () = member.group.shared.closing.cancelled() => Ok(()),
            () = member.left.cancelled() => Ok(()),
            _ = opened.changed() => Ok(()),
            () = silence.as_mut() => {
                let mut state = lock(&member.state);
                let quiet_until = state.inbox.as_ref().map(|inbox| inbox.heard + SILENCE);
                let now = Instant::now();
                match quiet_until {
                    Some(until) if until > now => silence.as_mut().reset(until),
                    _ => {
                        tracing::warn!(consumer = member.group.consumer, "no word from the server, opening the subscription again");
                        state.inbox = None;
                        silence.as_mut().reset(now + SILENCE);
                    }
                }
                Ok(())
            }
        }
    }

    /// Finds out how often the first `max` messages were released, where that matters.
    async fn look_up_releases(&mut self, max: usize) -> Result<()> {
        let group = &self.member.group;
        let unknown: Vec<u64> = {
            let state = lock(&self.member.state);
            let buffer = state.inbox.iter().flat_map(|inbox| inbox.buffer.iter().take(max));
            buffer.filter(|held| held.released.is_none()).map(|held| held.place.sequence).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let counts = join_all(unknown.iter().map(|sequence| group.releases(*sequence))).await;
        let mut state = lock(&self.member.state);
        for (sequence, count) in unknown.into_iter().zip(counts) {
            let count = count?;
            for held in state.inbox.iter_mut().flat_map(|inbox| inbox.buffer.iter_mut()) {
                if held.place.sequence == sequence && held.released.is_none() {
                    held.released = Some(count);
                }
            }
        }
        Ok(())
    }

    /// Whether to ask for more before all is used up: while a batch is worked off in no time, and when no other member of
    /// this process would be overtaken by what waits here.
    fn should_pull_ahead(&self, max: usize) -> bool {
        if self.member.members.load(Relaxed) != 1 {
            return false;
        }
        let quick = (self.member.group.deadline() / 10).min(Duration::from_millis(250));
        lock(&self.member.state).inbox.as_ref().is_some_and(|inbox| {
            let taken = inbox.buffer.len().min(max);
            inbox.pulled.elapsed() < quick && inbox.runs_low(taken, max)
        })
    }

    /// The first `max` messages as deliveries. Nothing may wait after this, or they would be lost.
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let group = &self.member.group;
        let now = Instant::now();
        let mut state = lock(&self.member.state);
        let Some(inbox) = &mut state.inbox else { return Vec::new() };
        // One whose releases are not known came in meanwhile; it is for the next call.
        let known = inbox.buffer.iter().take(max).take_while(|held| held.released.is_some()).count();
        inbox.buffer.drain(..known).filter_map(|held| group.deliver(held, now)).collect()
    }
}

#[async_trait]
impl Deliveries for NatsDeliveries {
    async fn next(&mut self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let max = max.max(1);
        let member = Arc::clone(&self.member);
        let _reading = Reading(&member);
        loop {
            if self.shared().is_closed() || member.left.is_cancelled() {
                return None;
            }
            let connection = *self.opened.borrow();
            let step = poll_fn(|context| Poll::Ready(member.step(context, connection))).await;
            let done = match step {
                Ok(Step::Take) => match self.look_up_releases(max).await {
                    Ok(()) => {
                        if self.should_pull_ahead(max)
                            && let Err(error) = self.pull(max).await
                        {
                            tracing::debug!(error = %error, "asking ahead failed");
                        }
                        let taken = self.take(max);
                        if !taken.is_empty() {
                            return Some(Ok(taken));
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Ok(Step::Pull) => self.pull(max).await,
                Ok(Step::Open) => self.open().await,
                Ok(Step::Wait) => self.wait().await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => {}
                Err(_) if self.shared().is_closed() => return None,
                Err(error) => {
                    let error = error.with_operation("event_bus.next").with_context("topic", member.group.topic());
                    return Some(Err(error));
                }
            }
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.member.left.cancel();
        // What is not handed back in time comes back after its deadline.
        let _ = timeout(self.shared().options.close_timeout, self.member.gone.cancelled()).await;
        Ok(())
    }
}

impl Drop for NatsDeliveries {
    fn drop(&mut self) {
        self.member.left.cancel();
    }
}

impl fmt::Debug for NatsDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsDeliveries")
            .field("consumer", &self.member.group.consumer)
            .finish_non_exhaustive()
    }
}
