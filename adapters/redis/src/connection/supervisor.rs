//! The task that looks after a connection: pings it, and replaces it when it dies. There is one, so there is never more
//! than one attempt at a time.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cqi_core::{Result, policy::Backoff};
use redis::{RedisError, Value};
use tokio::time::{Instant, sleep, timeout};

use super::{
    dial::dial,
    state::{Link, Shared, State},
};

/// Pauses between attempts. Short, so that calls work within 2 s after the server does.
const PAUSES: Backoff = Backoff {
    initial: Duration::from_millis(50),
    max: Duration::from_millis(500),
    multiplier: 2.0,
    jitter: 0.25,
};
/// Pauses between exchanges of a link that works. Where the address leads changes more slowly.
const EXCHANGES: Backoff = Backoff {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(2),
    ..PAUSES
};
/// The pause after a refusal that will hardly mend itself, such as a wrong password.
const REFUSED: Duration = Duration::from_secs(5);
/// The longest attempt to replace a connection, as an attempt that hangs keeps the next one from being made.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A link that lived shorter than this counts as a failed attempt.
const STABLE: Duration = Duration::from_secs(5);

pub(super) async fn run(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.closed.cancelled() => {}
        never = Supervisor { shared: &shared, failures: 0, links: 0 }.run() => match never {},
    }
}

struct Supervisor<'a> {
    shared: &'a Shared,
    /// Attempts in a row that gave no lasting link.
    failures: u32,
    /// The number of the newest link.
    links: u64,
}

impl Supervisor<'_> {
    async fn run(mut self) -> Infallible {
        loop {
            let since = Instant::now();
            match self.shared.link() {
                Some(link) => {
                    tokio::select! {
                        () = lost(self.shared) => {}
                        () = self.shared.wrong_server.notified() => self.exchange(since).await,
                        error = self.attend(link.clone()) => self.shared.lose(link.id, &error),
                    }
                    if since.elapsed() >= STABLE {
                        self.failures = 0;
                    }
                }
                None => self.replace().await,
            }
        }
    }

    /// Pings, and listens once somebody wants to, until there is no answer.
    async fn attend(&self, mut link: Link) -> RedisError {
        let interval = self.shared.options.ping_interval;
        let limit = interval.min(self.shared.options.timeout);
        let ping = redis::cmd("PING");
        loop {
            let wanted = async {
                match &self.shared.bell {
                    Some(bell) => bell.first.notified().await,
                    None => std::future::pending().await,
                }
            };
            let answer = tokio::select! {
                () = sleep(interval) => timeout(limit, link.wire.send(&ping, false)).await,
                () = wanted => timeout(limit, self.shared.subscribe(&mut link.wire))
                    .await
                    .map(|listens| listens.map(|()| Value::Okay)),
            };
            match answer {
                Err(_) => return std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
                // An error is an answer as well, if the server gave it.
                Ok(Err(error)) if error.code().is_none() => return error,
                Ok(answer) => drop(self.shared.note(link.id, answer)),
            }
        }
    }

    /// Replaces a lost link, for as long as that takes.
    async fn replace(&mut self) {
        while self.shared.link().is_none() {
            if let Err(error) = self.attempt(PAUSES).await {
                let known = matches!(&*self.shared.state.borrow(), State::Down(_));
                if !known {
                    tracing::warn!(error = %error.chain(), "cannot reconnect to Redis, trying on");
                }
                let refused = !error.is_temporary();
                self.shared.state.send_if_modified(|state| {
                    let open = !matches!(state, State::Closed);
                    if open {
                        *state = State::Down(error);
                    }
                    open
                });
                if refused {
                    sleep(REFUSED).await;
                }
            }
        }
    }

    /// Replaces a link that works, which stays in use until there is another one. When it is lost meanwhile, there is more
    /// haste than this has.
    async fn exchange(&mut self, since: Instant) {
        if since.elapsed() >= STABLE {
            self.failures = 0;
        }
        let shared = self.shared;
        let exchanged = tokio::select! {
            () = lost(shared) => return,
            exchanged = self.attempt(EXCHANGES) => exchanged,
        };
        if let Err(error) = exchanged {
            tracing::warn!(error = %error.chain(), "cannot replace the connection to Redis, keeping it");
        }
    }

    async fn attempt(&mut self, pauses: Backoff) -> Result<()> {
        if self.failures > 0 {
            sleep(pauses.delay(self.failures)).await;
        }
        self.failures = self.failures.saturating_add(1);
        let options = &self.shared.options;
        let limit = options.connection_timeout.min(ATTEMPT);
        let bell = self.shared.bell.as_ref();
        let mut wire = dial(options, bell.map(|bell| &bell.pushes), limit).await?;
        // Without it listeners only hear later; a link that is no good shows that by itself.
        let _ = timeout(limit, self.shared.subscribe(&mut wire)).await;
        self.links += 1;
        let link = Link { id: self.links, wire };
        self.shared.timeouts.store(0, Ordering::Relaxed);
        self.shared.state.send_if_modified(|state| {
            let open = !matches!(state, State::Closed);
            if open {
                *state = State::Up(link);
            }
            open
        });
        if let Some(bell) = bell {
            bell.ring();
        }
        tracing::info!(server = self.shared.server, "connected to Redis again");
        Ok(())
    }
}

/// Ends when there is no link any more.
async fn lost(shared: &Shared) {
    let mut state = shared.state.subscribe();
    // What it gives locks the state, so it goes at once.
    drop(state.wait_for(|state| !matches!(state, State::Up(_))).await);
}
