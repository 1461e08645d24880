//! Where a consumer's messages arrive, and the pull requests that ask for them.
//!
//! A pull is one-shot: the server keeps it until there is a message, sends what there is up to the batch, and ends it. So
//! nothing is sent to a member that did not ask, and what it asked for comes in one go.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_nats::{Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use cqi_core::{Code, Error, Result};
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use crate::{
    bus::Shared,
    error,
    group::Group,
    message::Source,
    share::{Held, Share},
};

/// How long the server keeps a pull that finds nothing.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often it says that it still does.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// After how long without a word the pull counts as forgotten.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// How many messages without an event may come with those of open pulls: their ends, and heartbeats.
const SPARE: usize = 8;
/// In what time a pull's messages must be worked off, at most, for the next one to go out ahead; a slow member would only
/// keep messages from others.
const QUICK: Duration = Duration::from_millis(250);
/// How long ending a subscription may take.
const ENDING: Duration = Duration::from_secs(1);
/// How many messages a pull asks for at most, and about how many bytes, unless a member wants more at once.
const MOST: usize = 512;
const MOST_BYTES: usize = 1 << 20;
/// In what time a pull's messages must be worked off for the next one to ask for more. What a member holds is then some
/// milliseconds of its work.
const BURST: Duration = Duration::from_millis(20);
/// The most bytes of one pull, unless a single message may be larger. With a limit the server also reports a pull's end.
const PULL_BYTES: usize = 8 << 20;

/// What is to be done with an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has messages.
    Take,
    /// It is empty and nothing was asked for.
    Pull,
    /// There is none.
    Open,
    /// Something was asked for.
    Wait,
}

/// One consumer's messages.
#[derive(Debug)]
pub(crate) struct Inbox {
    subscriber: Subscriber,
    reply: Subject,
    request: Subject,
    source: Source,
    buffer: VecDeque<Held>,
    /// Messages that came, of any kind, since the subscription was made.
    received: u64,
    /// Pulls the server has not ended.
    open: u32,
    /// How many messages the last one asked for.
    width: usize,
    /// The size of the last message.
    size: usize,
    /// How many went out in a row, each soon after the one before.
    soon: u32,
    /// About how many messages they may still bring.
    expected: usize,
    /// When anything came, or the last pull went out.
    heard: Instant,
    pub(crate) pulled: Instant,
    /// How often the connection had been opened when the pulls went out.
    pub(crate) connection: u64,
}

impl Inbox {
    pub(crate) async fn open(group: &Group, connection: u64) -> Result<Self> {
        let Group { shared, consumer, .. } = group;
        let stream = &shared.options.stream.name;
        let reply = shared.link.client().new_inbox();
        let subscribing = shared.link.client().subscribe(reply.clone());
        let subscriber = tokio::time::timeout(shared.options.publish_timeout, subscribing)
            .await
            .map_err(|_| shared.link.at(error::down()))?
            .map_err(|_| Error::closed("event bus"))?;
        let now = Instant::now();
        Ok(Self {
            subscriber,
            reply: reply.into(),
            request: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}").into(),
            source: Source::new(group.topic(), stream, consumer),
            buffer: VecDeque::new(),
            received: 0,
            open: 0,
            width: 0,
            size: 0,
            soon: 0,
            expected: 0,
            heard: now,
            pulled: now,
            connection,
        })
    }

    /// What a member with this share has to do, when it wants `max` messages.
    pub(crate) fn step(&self, share: Share, max: usize) -> Step {
        if self.buffer.iter().any(|held| share.takes(held)) {
            Step::Take
        } else if self.open == 0 && self.buffer.len() < max * share.of {
            Step::Pull
        } else {
            Step::Wait
        }
    }

    /// The first `max` messages of this share whose releases are known.
    pub(crate) fn take(&mut self, share: Share, max: usize) -> Vec<Held> {
        let ready = |held: &Held| held.released.is_some() && share.takes(held);
        if share.of == 1 {
            let ready = self
                .buffer
                .iter()
                .take(max)
                .take_while(|held| ready(held))
                .count();
            return self.buffer.drain(..ready).collect();
        }
        let mut taken = Vec::new();
        for held in std::mem::take(&mut self.buffer) {
            if taken.len() < max && ready(&held) {
                taken.push(held);
            } else {
                self.buffer.push_back(held);
            }
        }
        taken
    }

    /// Whether it has something that arrived before this moment.
    pub(crate) fn has_older(&self, than: Instant) -> bool {
        self.buffer.iter().any(|held| held.since <= than)
    }

    /// Begins with messages that came before it was opened.
    pub(crate) fn with_first(mut self, held: Vec<Held>) -> Self {
        self.buffer = held.into();
        self
    }

    /// Which of the first `max` messages of this share were delivered before, so that they may have been released.
    pub(crate) fn unknown(&self, share: Share, max: usize) -> Vec<u64> {
        let first = self.buffer.iter().filter(|held| share.takes(held)).take(max);
        first
            .filter(|held| held.released.is_none())
            .map(|held| held.place.sequence)
            .collect()
    }

    pub(crate) fn learn(&mut self, sequence: u64, released: u32) {
        for held in self
            .buffer
            .iter_mut()
            .filter(|held| held.place.sequence == sequence)
        {
            held.released.get_or_insert(released);
        }
    }

    /// Whether another pull should go out before `max` messages more are taken.
    pub(crate) fn runs_low(&self, max: usize) -> bool {
        let left = self.buffer.len().saturating_sub(max) + self.expected;
        self.open < 2 && left <= self.width.max(max) / 2
    }

    /// Whether what was asked for last is worked off in no time.
    pub(crate) fn is_quick(&self, deadline: Duration) -> bool {
        self.pulled.elapsed() < (deadline / 10).min(QUICK)
    }

    /// Until when something must come, if anything was asked for.
    pub(crate) fn quiet_until(&self, silence: Duration) -> Option<Instant> {
        (self.open > 0).then(|| self.heard + silence)
    }

    /// A pull for a member that wants `max` messages: where to, where from, what. Count on it being sent.
    ///
    /// A lone member that works off all it gets in no time is given twice as much each time, so that the server always has
    /// something to send.
    pub(crate) fn pull(
        &mut self,
        max: usize,
        is_alone: bool,
        max_payload: usize,
    ) -> (Subject, Subject, Bytes) {
        self.soon = if self.pulled.elapsed() < BURST {
            self.soon + 1
        } else {
            0
        };
        // The second goes out ahead. When the third does, all of the first is worked off.
        let batch = if is_alone && self.soon > 2 {
            let most = MOST.min(MOST_BYTES / self.size.max(1));
            max.max(most.min(self.width * 2))
        } else {
            max
        };
        self.width = batch;
        self.open += 1;
        self.expected += batch;
        self.pulled = Instant::now();
        self.heard = self.pulled;
        let request = format!(
            r#"{{"batch":{batch},"no_wait":true,"expires":{},"idle_heartbeat":{},"max_bytes":{}}}"#,
            EXPIRES.as_nanos(),
            HEARTBEAT.as_nanos(),
            PULL_BYTES.max(max_payload * 2)
        );
        (self.request.clone(), self.reply.clone(), Bytes::from(request))
    }

    /// Takes back the last pull, which could not be sent.
    pub(crate) fn not_sent(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.expected = self.expected.saturating_sub(self.width);
    }

    /// Forgets the pulls of a lost connection.
    pub(crate) fn forget_pulls(&mut self, connection: u64) {
        self.open = 0;
        self.expected = 0;
        self.connection = connection;
    }

    /// Takes in all that has arrived; none of it arrived before `since`. Registers for more. Says whether there was any.
    ///
    /// # Errors
    /// What the server says is wrong with the consumer. The inbox is then of no more use.
    pub(crate) fn read(&mut self, context: &mut Context<'_>, since: Instant) -> Result<bool> {
        let before = self.buffer.len();
        let mut heard = None;
        loop {
            match Pin::new(&mut self.subscriber).poll_next(context) {
                Poll::Pending => return Ok(self.buffer.len() > before),
                Poll::Ready(None) => return Err(Error::closed("event bus")),
                Poll::Ready(Some(message)) => {
                    // What is here already came at about the same time.
                    self.heard = *heard.get_or_insert_with(Instant::now);
                    self.received += 1;
                    match message.status {
                        None => self.hold(message, since),
                        Some(status) => self.note(status, &message)?,
                    }
                }
            }
        }
    }

    fn hold(&mut self, message: Message, since: Instant) {
        self.expected = self.expected.saturating_sub(1);
        // Read at once, so that its headers are gone before the next comes: the allocator is slow with many at a time.
        if let Some(held) = self.source.read(message, since) {
            self.size = held.bytes;
            self.buffer.push_back(held);
        }
    }

    fn note(&mut self, status: StatusCode, message: &Message) -> Result<()> {
        let description = message.description.as_deref().unwrap_or_default();
        match status.as_u16() {
            100 => return Ok(()),
            503 => return Err(error::gone("the group's consumer or the stream is missing")),
            409 if description == "Consumer Deleted" => {
                return Err(error::gone("the group's consumer was deleted"));
            }
            // The ordinary ends of a pull, and those of a server that stops or hands over.
            404 | 408 => {}
            409 if !(description.starts_with("Exceeded") || description.contains("push based")) => {}
            409 if description == "Exceeded MaxWaiting" => {
                return Err(
                    Error::temporary("the group has too many members that wait").with_code(Code::Exhausted)
                );
            }
            _ => {
                return Err(Error::permanent(format!(
                    "the server refuses to give out events: {description}"
                ))
                .with_code(Code::FailedPrecondition));
            }
        }
        let left = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Pending-Messages"));
        let left = left.and_then(|left| left.as_str().parse().ok()).unwrap_or(0);
        self.open = self.open.saturating_sub(1);
        if left > 0 {
            self.soon = 0; // there is no more
        }
        self.expected = if self.open == 0 {
            0
        } else {
            self.expected.saturating_sub(left)
        };
        Ok(())
    }

    /// Ends the subscription and returns everything that came until then.
    ///
    /// What the server sends between our last look and its end would be lost until its deadline. So the end is set at a
    /// count of messages that the open pulls cannot exceed, and what they leave of it is filled up by ourselves.
    pub(crate) async fn end(mut self, shared: &Shared, since: Instant) -> Vec<Held> {
        let _ = self.read(&mut Context::from_waker(Waker::noop()), since);
        if self.open > 0 && shared.link.is_up() {
            let more = self.expected + SPARE;
            let filled = async {
                self.subscriber
                    .unsubscribe_after(self.received + more as u64)
                    .await
                    .ok()?;
                for _ in 0..more {
                    shared
                        .link
                        .client()
                        .publish(self.reply.clone(), Bytes::new())
                        .await
                        .ok()?;
                }
                while let Some(message) = self.subscriber.next().await {
                    if message.status.is_none() && message.reply.is_some() {
                        self.hold(message, since);
                    }
                }
                Some(())
            };
            if tokio::time::timeout(ENDING, filled).await.is_err() {
                tracing::debug!(
                    "a subscription did not end in time; what was on its way comes back after its deadline"
                );
            }
        }
        self.buffer.into()
    }
}
