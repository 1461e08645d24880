//! The connection that every port of this crate calls through: shared by all callers, replaced when it dies.

mod dial;
mod state;
mod supervisor;
mod wire;

use std::{
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
    state::{Bell, Link, Shared, State},
};
use crate::{
    config::RedisOptions,
    error::{Call, classify, of_a_cluster, unexpected},
};

/// How many pushed messages wait for a listener that is behind; it then counts as having heard something.
const MAX_BEHIND: usize = 64;

/// What was published; the empty text means that anything may have been missed.
pub(crate) type Pushes = broadcast::Sender<Arc<str>>;

/// A connection and the task that looks after it. Dropping it ends both.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

impl Connection {
    /// Connects for the handle named `owner`. With a channel it can [`Connection::listen`] to that, for which Redis 6 is
    /// needed.
    pub(crate) async fn open(
        options: RedisOptions,
        owner: &'static str,
        channel: Option<&'static str>,
    ) -> Result<Self> {
        options.validate()?;
        let bell = channel.map(|channel| Bell::new(channel, MAX_BEHIND));
        let pushes = bell.as_ref().map(|bell| &bell.pushes);
        let wire = dial(&options, pushes, options.connection_timeout).await?;
        if options.is_open_to_others() {
            let server = options.server();
            tracing::warn!(
                server,
                owner,
                "the connection to Redis is not encrypted; rediss:// encrypts it"
            );
        }
        let shared = Arc::new(Shared {
            server: options.server(),
            owner,
            options,
            state: watch::Sender::new(State::Up(Link { id: 0, wire })),
            timeouts: Default::default(),
            wrong_server: Default::default(),
            closed: Default::default(),
            bell,
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

    /// Runs a script, by its hash if the server knows it. All its keys are in the slot of `key`. Within the configured time
    /// as well, and cancel-safe as [`Connection::run`] is.
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
        let deadline = self.deadline();
        let mut answer = self.send(call, &command("EVALSHA", script.get_hash())).await?;
        if matches!(&answer, Err(error) if error.code() == Some("NOSCRIPT")) {
            // The server was restarted or is new: it takes the whole text, and knows it from then on.
            answer = self.send_by(deadline, call, &command("EVAL", code)).await?;
        }
        answer.map_err(|error| self.classify(&error, call))
    }

    /// Fails at once when there is no connection; what became of the command is in the inner result.
    async fn send(&self, call: Call, command: &Cmd) -> Result<RedisResult<Value>> {
        match self.shared.link() {
            // The client keeps the time of one command itself.
            Some(mut link) if !link.wire.is_cluster() => {
                let answer = link.wire.send(command, call.one_key).await;
                Ok(self.shared.note(link.id, answer))
            }
            _ => self.send_by(self.deadline(), call, command).await,
        }
    }

    async fn send_by(&self, deadline: Instant, call: Call, command: &Cmd) -> Result<RedisResult<Value>> {
        let shared = &self.shared;
        let mut link = match shared.link() {
            Some(link) => link,
            None => shared.wait_for_link(call, deadline).await?,
        };
        let answer = timeout_at(deadline, link.wire.send(command, call.one_key)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        Ok(shared.note(link.id, answer))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.options.timeout
    }

    fn classify(&self, error: &RedisError, call: Call) -> Error {
        let options = &self.shared.options;
        match error.code() {
            Some("MOVED") if !options.cluster => of_a_cluster(call, &self.shared.server),
            _ => classify(error, call, &self.shared.server, options.timeout),
        }
    }

    /// Hears what is published from now on, and the empty text when it is sure to hear everything. `None` when the
    /// connection was opened without a channel.
    ///
    /// A server that does not let this user listen is logged, and then nothing is heard: ask from time to time.
    pub(crate) fn listen(&self) -> Option<broadcast::Receiver<Arc<str>>> {
        self.shared.bell.as_ref().map(Bell::listen)
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
