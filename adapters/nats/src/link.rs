//! The connection: what happens to it, and calls over it that always end.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, HeaderMap, Message, PublishError, Request, RequestErrorKind, Subject,
    connection::State,
};
use bytes::Bytes;
use cqi_core::{Error, Result};
use futures::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Addresses, NatsOptions},
    error,
    requests::Mailbox,
};

/// How often a call that waits looks whether it waits in vain. An answer in time costs nothing of it.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// The longest pause between two attempts to connect, so that a server that is back is found soon.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// The pause of a client that was closed while its server was away; the client itself cannot be ended then.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How many refusals of the server are remembered.
const REFUSALS: usize = 16;

/// A connection that opens itself anew until it is closed.
pub(crate) struct Link {
    client: Client,
    signals: Arc<Signals>,
    /// Those of batches that have ended.
    pub(crate) mailboxes: Mutex<Vec<Mailbox>>,
}

/// What was so when a request was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    losses: u64,
    refused: u64,
    within: Duration,
    pub(crate) end: Instant,
}

/// What the connection has told.
#[derive(Default)]
struct Signals {
    /// `host:port` of the servers, for messages.
    server: String,
    /// How often the connection was lost.
    losses: AtomicU64,
    /// How often it was opened.
    opened: watch::Sender<u64>,
    /// What the server refused last, each with its number, and how often it refused.
    refusals: Mutex<VecDeque<(u64, String)>>,
    refused: AtomicU64,
    /// Cancelled when the client has ended.
    ended: CancellationToken,
    /// Whether to look for the server no more.
    given_up: AtomicBool,
}

impl Link {
    /// Connects within the limit of `options`, or says in one line why not.
    pub(crate) async fn open(options: &NatsOptions) -> Result<Self> {
        let addresses = options.addresses()?;
        let signals = Arc::new(Signals {
            server: addresses.to_string(),
            ..Signals::default()
        });
        let heard = Arc::clone(&signals);
        let connect = client_options(options, &addresses, Arc::clone(&signals))
            .event_callback(move |event| {
                heard.note(&event);
                std::future::ready(())
            })
            .connect(addresses.servers);
        let opened = match timeout(options.connection_timeout, connect).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(error::connect(&error)),
            Err(_) => Err(error::connect(&async_nats::ConnectErrorKind::TimedOut.into())),
        };
        match opened {
            Ok(client) => Ok(Self {
                client,
                signals,
                mailboxes: Mutex::default(),
            }),
            Err(error) => Err(error
                .with_operation("event_bus.connect")
                .with_context("server", &signals.server)),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// `host:port` of the servers.
    pub(crate) fn server(&self) -> &str {
        &self.signals.server
    }

    pub(crate) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Raised each time the connection is opened.
    pub(crate) fn opened(&self) -> watch::Receiver<u64> {
        self.signals.opened.subscribe()
    }

    /// Looks for a server that is away no more.
    pub(crate) fn give_up(&self) {
        self.signals.given_up.store(true, Release);
    }

    /// Ends when the client has ended.
    pub(crate) async fn ended(&self) {
        self.signals.ended.cancelled().await;
    }

    /// Sends a request and waits for its answer, `within` at most. `None`: nobody listens on the subject.
    ///
    /// It also ends when the connection is lost or the server refuses the subject, of which the client itself says
    /// nothing. Cancel-safe: the answer is then dropped.
    pub(crate) async fn ask(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        within: Duration,
    ) -> Result<Option<Message>> {
        let watch = self.watch(within)?;
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let asking = pin!(self.client.send_request(subject.clone(), request));
        match self.attend(&watch, &subject, asking).await? {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(None),
            Err(error) => Err(self.at(error::request(&error))),
        }
    }

    /// Begins to watch over a request, which is to end `within` that time.
    ///
    /// # Errors
    /// When there is no connection.
    pub(crate) fn watch(&self, within: Duration) -> Result<Watch> {
        if !self.is_up() {
            return Err(self.at(error::down()));
        }
        Ok(Watch {
            losses: self.losses(),
            refused: self.signals.refused.load(Acquire),
            within,
            end: Instant::now() + within,
        })
    }

    /// Waits for `work`, until it has become vain.
    pub(crate) async fn attend<T>(
        &self,
        watch: &Watch,
        subject: &str,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T> {
        let mut now = watch.end - watch.within;
        loop {
            if let Ok(done) = timeout_at(watch.end.min(now + LOOK), &mut work).await {
                return Ok(done);
            }
            if let Some(error) = self.vain(watch, subject) {
                return Err(error);
            }
            now = Instant::now();
        }
    }

    /// Why there will be no answer from `subject` any more, if so.
    pub(crate) fn vain(&self, watch: &Watch, subject: &str) -> Option<Error> {
        let error = if self.losses() != watch.losses {
            error::lost()
        } else if self.signals.refuses(subject, watch.refused) {
            error::denied(subject)
        } else if Instant::now() >= watch.end {
            Error::timeout(watch.within)
        } else {
            return None;
        };
        Some(self.at(error))
    }

    /// Sends a message that has no answer.
    ///
    /// Cancel-safe: it is then either sent or not.
    pub(crate) async fn tell(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        payload: Bytes,
        within: Duration,
    ) -> Result<()> {
        if !self.is_up() {
            return Err(self.at(error::down()));
        }
        // There is room nearly always, and then no need for a timer, nor for space to wait in.
        let sent = match self.post(&subject, reply.as_ref(), &payload).now_or_never() {
            Some(sent) => sent,
            None => {
                let posting = Box::pin(self.post(&subject, reply.as_ref(), &payload));
                timeout(within, posting)
                    .await
                    .map_err(|_| self.at(error::down()))?
            }
        };
        sent.map_err(|_| Error::closed("event bus"))
    }

    async fn post(
        &self,
        subject: &Subject,
        reply: Option<&Subject>,
        payload: &Bytes,
    ) -> Result<(), PublishError> {
        let (subject, payload) = (subject.clone(), payload.clone());
        match reply {
            Some(reply) => {
                let sent = self.client.publish_with_reply(subject, reply.clone(), payload);
                sent.await
            }
            None => self.client.publish(subject, payload).await,
        }
    }

    /// An error with the server's name.
    pub(crate) fn at(&self, error: Error) -> Error {
        error.with_context("server", &self.signals.server)
    }

    /// How often the connection was lost so far.
    pub(crate) fn losses(&self) -> u64 {
        self.signals.losses.load(Acquire)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.signals.server)
            .finish_non_exhaustive()
    }
}

impl Signals {
    fn note(&self, event: &async_nats::Event) {
        let server = &self.server;
        match event {
            async_nats::Event::Connected => {
                self.opened.send_modify(|times| *times += 1);
                tracing::info!(server, "connected to NATS");
            }
            async_nats::Event::Disconnected => {
                self.losses.fetch_add(1, AcqRel);
                tracing::warn!(server, "connection to NATS lost, opening it anew");
            }
            async_nats::Event::Closed => self.ended.cancel(),
            async_nats::Event::Draining => tracing::debug!(server, "closing the connection to NATS"),
            async_nats::Event::LameDuckMode => tracing::warn!(server, "the NATS server is about to stop"),
            async_nats::Event::SlowConsumer(subscription) => {
                tracing::error!(server, subscription, "messages came faster than they were read");
            }
            async_nats::Event::ServerError(error) => {
                let text = error.to_string();
                tracing::error!(server, error = text, "the NATS server reports an error");
                let mut refusals = lock(&self.refusals);
                if refusals.len() == REFUSALS {
                    refusals.pop_front();
                }
                let before = self.refused.fetch_add(1, AcqRel);
                refusals.push_back((before + 1, text));
            }
            async_nats::Event::ClientError(error) => {
                tracing::warn!(server, error = error.to_string(), "connecting to NATS failed");
            }
        }
    }

    /// Whether the server refused this subject, or the answers to any request, after its first `before` refusals. What it
    /// refused earlier may have been granted since.
    fn refuses(&self, subject: &str, before: u64) -> bool {
        if self.refused.load(Acquire) == before {
            return false;
        }
        let refusals = lock(&self.refusals);
        let since = refusals.iter().filter(|(number, _)| *number > before);
        since.map(|(_, text)| text).any(|text| {
            let text_lower = text.to_ascii_lowercase();
            text_lower.contains("permissions violation")
                && (text.contains(&format!("\"{subject}\""))
                    || text_lower.contains("subscription to \"_inbox"))
        })
    }
}

fn client_options(options: &NatsOptions, addresses: &Addresses, signals: Arc<Signals>) -> ConnectOptions {
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(options.connection_timeout)
        // The client gives a link up at the third ping without an answer: one and a half of our intervals.
        .ping_interval(options.ping_interval / 2)
        .request_timeout(None)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempts| {
            if signals.given_up.load(Acquire) {
                NEVER
            } else {
                reconnect_pause(attempts)
            }
        });
    let password = || addresses.password.expose().to_owned();
    if !addresses.user.is_empty() {
        connect = connect.user_and_password(addresses.user.clone(), password());
    } else if !addresses.password.is_empty() {
        connect = connect.token(password());
    }
    if let Some(file) = &options.ca_file {
        connect = connect.add_root_certificates(file.clone());
    }
    connect
}

/// Doubles from 50 ms to a second, less a random fifth, so that clients of a restarted server do not come at once.
fn reconnect_pause(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempts - 2).unwrap_or(u32::MAX).min(10);
    let pause = (Duration::from_millis(50) * 2_u32.pow(doublings)).min(MAX_RECONNECT_PAUSE);
    let random = u32::try_from(RandomState::new().hash_one(attempts) % 200).unwrap_or_default();
    pause - pause * random / 1000
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_before_may_be_granted_now() {
        let signals = Signals::default();
        let report = |text: &str| {
            let error = async_nats::ServerError::Other(text.to_owned());
            signals.note(&async_nats::Event::ServerError(error));
        };
        report("Permissions Violation for Publish to \"a\"");
        assert!(signals.refuses("a", 0) && !signals.refuses("b", 0));
        report("Permissions Violation for Publish to \"b\"");
        assert!(!signals.refuses("a", 1) && signals.refuses("b", 1) && !signals.refuses("b", 2));
    }

    #[test]
    fn the_pause_grows_to_a_second() {
        assert_eq!(reconnect_pause(1), Duration::ZERO);
        let second = reconnect_pause(2);
        assert!(second >= Duration::from_millis(40) && second <= Duration::from_millis(50));
        for attempts in [10, 100, usize::MAX] {
            let pause = reconnect_pause(attempts);
            assert!(
                pause >= Duration::from_millis(800) && pause <= MAX_RECONNECT_PAUSE,
                "{pause:?}"
            );
        }
    }
}
