//! The connections: who has one, who waits, and what becomes of one that is given back.
//!
//! The driver's own pool is not used: it pings when a connection is taken and again when it is given back, in a task of
//! its own, hides why a server could not be reached, and gives back connections whose statement was cut off.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cqi_core::{Code, Error, Result};
use futures::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::PostgresOptions,
    connection::{Connection, Release},
    lease::Lease,
    outage::Outage,
};

/// After which time without use a connection is asked whether it still works before it is lent out.
const TRUST: Duration = Duration::from_secs(1);

pub(crate) struct Pool {
    pub(crate) options: PostgresOptions,
    connect: PgConnectOptions,
    server: String,
    /// One permit per connection; fair.
    slots: Arc<Semaphore>,
    /// The next one to lend out is the last. Locked for a push or pop only.
    idle: Mutex<Vec<Connection>>,
    pub(crate) closed: CancellationToken,
    /// Goes up when a connection was lost or tables were changed: idle ones of an earlier generation are checked before
    /// use, and forget their prepared statements.
    generation: AtomicU64,
    opened: AtomicU64,
    pub(crate) outage: Outage,
    /// To the keeper; never full, since each holds a permit.
    unfinished: mpsc::Sender<Unfinished>,
}

/// What makes a connection usable, or finds out that it is not, and its place in the pool.
pub(crate) struct Unfinished(
    pub(crate) BoxFuture<'static, Option<Connection>>,
    pub(crate) OwnedSemaphorePermit,
);

impl Pool {
    pub(crate) fn new(options: PostgresOptions) -> Result<(Arc<Self>, mpsc::Receiver<Unfinished>)> {
        options.validate()?;
        let max = options.max_connections as usize;
        let (unfinished, work) = mpsc::channel(max);
        let pool = Self {
            connect: options.connect_options()?,
            server: options.server(),
            slots: Arc::new(Semaphore::new(max)),
            idle: Mutex::default(),
            closed: CancellationToken::new(),
            generation: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            outage: Outage::default(),
            unfinished,
            options,
        };
        Ok((Arc::new(pool), work))
    }

    /// A connection for one caller.
    ///
    /// Cancel safety: nothing is lost when the future is dropped.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Lease> {
        self.check_open()?;
        let mut deadline = None;
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(closed()),
            Err(TryAcquireError::NoPermits) => {
                let until = *deadline.insert(Instant::now() + self.options.connection_timeout);
                let waiting = timeout_at(until, Arc::clone(&self.slots).acquire_owned());
                waiting
                    .await
                    .map_err(|_| self.exhausted())?
                    .map_err(|_| closed())?
            }
        };
        self.check_open()?;
        let mut lease = Lease::new(self, self.pop(), permit);
        let generation = self.generation.load(Ordering::Acquire);
        let ready = lease.peek().is_some_and(|connection| {
            let now = Instant::now();
            connection.generation == generation
                && now < connection.idle_since + TRUST
                && now < connection.expires
        });
        if !ready {
            let until = deadline.unwrap_or_else(|| Instant::now() + self.options.connection_timeout);
            timeout_at(until, lease.prepare(generation)).await.map_err(|_| {
                if deadline.is_none() {
                    self.silent()
                } else {
                    self.exhausted()
                }
            })??;
        }
        Ok(lease)
    }

    /// Opens a connection, within `connection_timeout`.
    pub(crate) fn open(self: &Arc<Self>) -> BoxFuture<'static, Result<Connection>> {
        let pool = Arc::clone(self);
        Box::pin(async move {
            timeout(pool.options.connection_timeout, pool.connect())
                .await
                .unwrap_or_else(|_| Err(pool.silent()))
        })
    }

    /// Leaves something to the keeper. Without one it is dropped.
    pub(crate) fn leave(&self, unfinished: Unfinished) {
        drop(self.unfinished.try_send(unfinished));
    }

    async fn connect(&self) -> Result<Connection> {
        self.outage.check()?;
        // Not all at the same age.
        let lifetime = self.options.max_lifetime;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let lifetime = lifetime - lifetime / 64 * u32::try_from(number % 8).unwrap_or_default();
        let generation = self.generation.load(Ordering::Acquire);
        let (timeout, writable) = (self.options.statement_timeout, self.options.require_writable);
        match Connection::open(&self.connect, timeout, writable, lifetime).await {
            Ok(mut connection) => {
                self.outage.ended();
                connection.generation = generation;
                Ok(connection)
            }
            Err(error) => {
                let error = self.at_server(error);
                self.outage.failed(&error);
                Err(error)
            }
        }
    }

    /// Gives a connection a place among the idle ones.
    pub(crate) fn give_back(&self, mut connection: Connection) {
        if connection.take_schema_changed() {
            self.suspect_all();
        }
        connection.idle_since = Instant::now();
        if !self.slots.is_closed() && connection.release(connection.idle_since) == Release::Clean {
            self.lock().push(connection);
        }
    }

    /// Takes out the idle connections that are over their time, but for the least that are kept.
    pub(crate) fn take_expired(&self) -> Vec<Connection> {
        let now = Instant::now();
        let mut spare = self.size().saturating_sub(self.options.min_connections as usize);
        let mut idle = self.lock();
        let over = idle.extract_if(.., |connection| {
            let unused = now >= connection.idle_since + self.options.idle_timeout && spare > 0;
            spare -= usize::from(unused);
            unused || now >= connection.expires
        });
        over.collect()
    }

    /// A place for one more connection, if fewer are open than have to be kept.
    pub(crate) fn missing(&self) -> Option<OwnedSemaphorePermit> {
        let wanted = !self.is_closed() && self.size() < self.options.min_connections as usize;
        wanted
            .then(|| Arc::clone(&self.slots).try_acquire_owned().ok())
            .flatten()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits for all loans to end, then closes the connections.
    pub(crate) async fn close(&self) -> Result<()> {
        self.closed.cancel();
        let limit = self.options.statement_timeout;
        let ended = timeout(limit, async {
            // An error: closed before.
            if let Ok(_all) = self.slots.acquire_many(self.options.max_connections).await {
                let idle = self.take_idle();
                futures::future::join_all(idle.into_iter().map(Connection::close)).await;
            }
        });
        let ended = ended.await;
        self.slots.close();
        ended.map_err(|_| {
            self.lock().clear();
            let why = format!("connections were still in use after {limit:?}");
            self.at_server(Error::temporary(why).with_code(Code::Timeout))
        })
    }

    /// Idle connections are checked before their next use.
    pub(crate) fn suspect_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes out all idle connections.
    pub(crate) fn take_idle(&self) -> Vec<Connection> {
        std::mem::take(&mut *self.lock())
    }

    pub(crate) fn pop(&self) -> Option<Connection> {
        self.lock().pop()
    }

    fn in_use(&self) -> usize {
        (self.options.max_connections as usize).saturating_sub(self.slots.available_permits())
    }

    fn size(&self) -> usize {
        self.in_use() + self.lock().len()
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// M11: says how many connections are where, and why there are no more.
    fn exhausted(&self) -> Error {
        let why = format!("no free connection within {:?}", self.options.connection_timeout);
        let error = Error::temporary(why)
            .with_code(Code::Exhausted)
            .with_context("max_connections", self.options.max_connections)
            .with_context("in_use", self.in_use())
            .with_context("idle", self.lock().len());
        let error = match self.outage.last() {
            Some(last) => error
                .with_context("last_connect_error", last.message())
                .with_source(last),
            None => error,
        };
        self.at_server(error)
    }

    /// The server neither refused nor took the connection in time.
    fn silent(&self) -> Error {
        let why = format!(
            "the server did not answer within {:?}",
            self.options.connection_timeout
        );
        let error = self.at_server(Error::temporary(why).with_code(Code::Unavailable));
        self.outage.failed(&error);
        error
    }

    pub(crate) fn at_server(&self, error: Error) -> Error {
        error.with_context("server", &self.server)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    /// Without the driver's options, which show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("options", &self.options)
            .field("in_use", &self.in_use())
            .field("idle", &self.lock().len())
            .finish_non_exhaustive()
    }
}

pub(crate) fn closed() -> Error {
    Error::closed("the database")
}
