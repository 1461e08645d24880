//! The connection that every port of this crate calls through: shared by all callers, replaced when it dies.

mod dial;
mod state;
mod supervisor;
mod wire;

use std::{
    collections::BTreeSet,
    fmt, io,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use cqi_core::{Error, Result};
use redis::{Cmd, RedisError, RedisResult, Script, Value};
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use self::{
    dial::dial,
    state::{Link, Shared, State},
};
use crate::{
    config::RedisOptions,
    error::{Call, classify, unexpected},
};

/// How many pushed messages wait for a listener that is behind; it then counts as having heard something.
const MAX_BEHIND: usize = 64;

/// What was published, by channel; the empty name means that anything may have been missed.
pub(crate) type Pushes = broadcast::Sender<Arc<str>>;

/// A connection and the task that looks after it. Dropping it ends both.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

impl Connection {
    /// Connects for the handle named `owner`. With `listens` it can [`Connection::listen`], for which Redis 6 is needed.
    pub(crate) async fn open(options: RedisOptions, owner: &'static str, listens: bool) -> Result<Self> {
        options.validate()?;
        let pushes = listens.then(|| Pushes::new(MAX_BEHIND));
        let wire = dial(&options, pushes.as_ref(), options.connection_timeout).await?;
        let shared = Arc::new(Shared {
            server: options.server(),
            owner,
            options,
            state: watch::Sender::new(State::Up(Link { id: 0, wire })),
            timeouts: Default::default(),
            wrong_server: Default::default(),
            closed: Default::default(),
            channels: Mutex::new(BTreeSet::new()),
            pushes,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(supervisor::run(Arc::clone(&shared)));
        Ok(Self {
            shared,
            tasks: Mutex::new(tasks),
        })
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.shared.options
    }

    /// Sends a command and waits for the answer, both within the configured time. Cancel-safe; a command that was sent
    /// is carried out though its caller is gone.
    pub(crate) async fn run(&self, call: Call, command: &Cmd) -> Result<Value> {
        self.send(call, command)
            .await?
            .map_err(|error| self.classify(&error, call))
    }

    /// Runs a script, by its hash if the server knows it. All its keys are in the slot of `key`.
    pub(crate) async fn script(
        &self,
        call: Call,
        script: &Script,
        code: &str,
        key: &str,
        args: &[&[u8]],
    ) -> Result<Value> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(1).arg(key).arg(args);
            command
        };
        match self.send(call, &command("EVALSHA", script.get_hash())).await? {
            // The server was restarted or is new: it takes the whole text, and knows it from then on.
            Err(error) if error.code() == Some("NOSCRIPT") => self.run(call, &command("EVAL", code)).await,
            answer => answer.map_err(|error| self.classify(&error, call)),
        }
    }

    /// Fails at once when there is no connection; what became of the command is in the inner result.
    async fn send(&self, call: Call, command: &Cmd) -> Result<RedisResult<Value>> {
        let shared = &self.shared;
        if let Some(mut link) = shared.link() {
            let answer = link.wire.send(command).await;
            return Ok(shared.note(link.id, answer));
        }
        let deadline = Instant::now() + shared.options.timeout;
        let mut link = shared.wait_for_link(call, deadline).await?;
        let answer = timeout_at(deadline, link.wire.send(command)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        Ok(shared.note(link.id, answer))
    }

    fn classify(&self, error: &RedisError, call: Call) -> Error {
        classify(error, call, &self.shared.server, self.shared.options.timeout)
    }

    /// Hears what is published from now on. `None` when the connection was opened without listening.
    ///
    /// A server that does not let this user listen is logged, and then nothing is heard: ask from time to time.
    pub(crate) async fn listen(&self, channel: &str) -> Option<broadcast::Receiver<Arc<str>>> {
        let heard = self.shared.pushes.as_ref()?.subscribe();
        let new = self.shared.channels().insert(channel.to_owned());
        if new && let Some(link) = self.shared.link() {
            self.shared.subscribe(link.wire, &[channel.to_owned()]).await;
        }
        Some(heard)
    }

    pub(crate) async fn ping(&self, operation: &'static str) -> Result<()> {
        let call = Call::read(operation);
        match self.run(call, &redis::cmd("PING")).await? {
            Value::SimpleString(text) if text == "PONG" => Ok(()),
            _ => Err(self.unexpected(call)),
        }
    }

    pub(crate) fn unexpected(&self, call: Call) -> Error {
        unexpected(call, &self.shared.server)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Done once the connection was closed.
    pub(crate) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Ends the connection and its task. Calls under way end by themselves.
    pub(crate) async fn close(&self) {
        self.shared.closed.cancel();
        self.shared.state.send_replace(State::Closed);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        // It ends at its next await, which is at once; the limit only keeps a promise.
        let _ = timeout(self.shared.options.timeout, tasks.shutdown()).await;
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.shared.server)
            .field("timeouts", &self.shared.timeouts.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
