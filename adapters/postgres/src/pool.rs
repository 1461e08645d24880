//! The connections: who has one, who waits, and what becomes of one that is given back.
//!
//! The driver's own pool is not used: it pings when a connection is taken and again when it is given back, in a task of
//! its own, hides why a server could not be reached, and gives back connections whose statement was cut off.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cqi_core::{Code, Error, Result, database::Statement};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    config::PostgresOptions,
    connection::{Connection, Outcome, Release},
    error::{Fate, Fault, Phase, classify, timed_out},
    outage::Outage,
};

/// After which time without use a connection is asked whether it still works before it is lent out.
const TRUST: Duration = Duration::from_secs(1);

/// How much longer than the server's own limit we wait for a statement.
const GRACE: Duration = Duration::from_millis(500);

pub(crate) struct Pool {
    pub(crate) options: PostgresOptions,
    connect: PgConnectOptions,
    server: String,
    /// One permit per connection; fair.
    slots: Arc<Semaphore>,
    /// The next one to lend out is the last. Locked for a push or pop only.
    idle: Mutex<Vec<Connection>>,
    closed: AtomicBool,
    /// Goes up when a connection was lost or tables were changed: idle ones of an earlier generation are checked before
    /// use, and forget their prepared statements.
    generation: AtomicU64,
    opened: AtomicU64,
    pub(crate) outage: Outage,
    /// To the keeper; never full, since each holds a permit.
    repairs: mpsc::Sender<Repair>,
}

/// A connection in which a transaction is to be rolled back, and its place in the pool.
#[derive(Debug)]
pub(crate) struct Repair(pub(crate) Connection, pub(crate) OwnedSemaphorePermit);

/// A connection on loan. Dropping it gives the connection back from whatever state it is in.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Both are there but while the lease is made or dropped.
    connection: Option<Connection>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
}

impl Pool {
    pub(crate) fn new(options: PostgresOptions) -> Result<(Arc<Self>, mpsc::Receiver<Repair>)> {
        options.validate()?;
        let max = options.max_connections as usize;
        let (repairs, broken) = mpsc::channel(max);
        let pool = Self {
            connect: options.connect_options()?,
            server: options.server(),
            slots: Arc::new(Semaphore::new(max)),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            outage: Outage::default(),
            repairs,
            options,
        };
        Ok((Arc::new(pool), broken))
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
        let mut lease = Lease {
            connection: self.pop(),
            permit: Some(permit),
            pool: Arc::clone(self),
        };
        let generation = self.generation.load(Ordering::Acquire);
        let ready = lease.connection.as_ref().is_some_and(|connection| {
            let now = Instant::now();
            connection.generation == generation
                && now < connection.idle_since + TRUST
                && now < connection.expires
        });
        if !ready {
            let until = deadline.unwrap_or_else(|| Instant::now() + self.options.connection_timeout);
            timeout_at(until, lease.prepare(generation))
                .await
                .map_err(|_| self.silent())??;
        }
        Ok(lease)
    }

    /// Opens a connection; the caller sets the limit.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.outage.check()?;
        // Not all at the same age.
        let lifetime = self.options.max_lifetime;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let lifetime = lifetime - lifetime / 64 * u32::try_from(number % 8).unwrap_or_default();
        let generation = self.generation.load(Ordering::Acquire);
        match Connection::open(&self.connect, self.options.require_writable, lifetime).await {
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
        self.closed.load(Ordering::Acquire)
    }

    /// Waits for all loans to end, then closes the connections.
    pub(crate) async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let limit = self.options.statement_timeout;
        let ended = timeout(limit, async {
            // An error: closed before.
            if let Ok(_all) = self.slots.acquire_many(self.options.max_connections).await {
                let idle = std::mem::take(&mut *self.lock());
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
    fn suspect_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn pop(&self) -> Option<Connection> {
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

fn closed() -> Error {
    Error::closed("the database")
}

impl Lease {
    /// Brings the connection up to date, takes another one, or opens one.
    async fn prepare(&mut self, generation: u64) -> Result<()> {
        while let Some(mut connection) = self.connection.take().or_else(|| self.pool.pop()) {
            if Instant::now() >= connection.expires {
                continue;
            }
            // A server that is gone without a word must not use up all of the caller's time.
            let limit = self.pool.options.connection_timeout / 2;
            let refreshed = timeout(
                limit,
                connection.refresh(generation, self.pool.options.require_writable),
            )
            .await;
            match refreshed.unwrap_or_else(|_| Err(timed_out(limit, Phase::Connect))) {
                Ok(()) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(fault) => {
                    tracing::debug!(error = %fault.error.chain(), "a PostgreSQL connection was discarded")
                }
            }
        }
        self.connection = Some(self.pool.connect().await?);
        Ok(())
    }

    /// The connection, which is there as long as a caller holds the lease.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection> {
        self.connection.as_mut().ok_or_else(closed)
    }

    /// As [`Lease::connection`], to look at.
    pub(crate) fn peek(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// What an error of the driver is in our terms.
    pub(crate) fn explain(&self, error: sqlx::Error) -> Error {
        self.pool
            .at_server(classify(error, Phase::Autocommit, true).error)
    }

    /// Runs a statement under the statement timeout; logs it when slow. Errors name the server, the port's method and
    /// the statement's first word.
    pub(crate) async fn run(
        &mut self,
        method: &'static str,
        statement: Statement,
        phase: Phase,
        rows: bool,
    ) -> Result<Outcome, Fault> {
        let operation = known(statement.operation());
        let started = Instant::now();
        let (text, values) = statement.into_parts();
        let result = self
            .limited(phase, async |connection| {
                connection.run(&text, &values, phase, rows).await
            })
            .await;
        let elapsed = started.elapsed();
        if elapsed >= self.pool.options.slow_threshold {
            let elapsed_ms = elapsed.as_secs_f64() * 1e3;
            tracing::warn!(
                operation,
                statement = &*text,
                elapsed_ms,
                failed = result.is_err(),
                "slow statement"
            );
        }
        result.map_err(|fault| Fault {
            error: fault
                .error
                .with_operation(method)
                .with_context("statement", operation),
            ..fault
        })
    }

    /// Runs something on the connection under the statement timeout; a connection that did not answer is given up.
    pub(crate) async fn limited<T>(
        &mut self,
        phase: Phase,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let limit = self.pool.options.statement_timeout;
        let connection = self.connection().map_err(Fault::ours)?;
        let result = match timeout(limit + GRACE, work(connection)).await {
            Ok(result) => result,
            Err(_) => {
                connection.give_up();
                Err(timed_out(limit, phase))
            }
        };
        result.map_err(|fault| {
            if fault.fate != Fate::Keep {
                self.pool.suspect_all();
            }
            Fault {
                error: self.pool.at_server(fault.error),
                ..fault
            }
        })
    }
}

/// The first word of a statement as a label of bounded length.
fn known(operation: &str) -> &'static str {
    const WORDS: [&str; 20] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "WITH",
        "MERGE",
        "SAVEPOINT",
        "RELEASE",
        "ROLLBACK",
        "CREATE",
        "ALTER",
        "DROP",
        "TRUNCATE",
        "SET",
        "SHOW",
        "CALL",
        "DO",
        "LOCK",
        "VALUES",
        "EXPLAIN",
    ];
    WORDS
        .iter()
        .find(|word| word.eq_ignore_ascii_case(operation))
        .copied()
        .unwrap_or("other")
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut connection), Some(permit)) = (self.connection.take(), self.permit.take()) else {
            return;
        };
        if connection.take_schema_changed() {
            self.pool.suspect_all();
        }
        match connection.release(Instant::now()) {
            Release::Clean => self.pool.give_back(connection),
            // Without a keeper the connection is closed, which rolls back as well.
            Release::Dirty => drop(self.pool.repairs.try_send(Repair(connection, permit))),
            // Closing the socket: the server ends what runs there.
            Release::Broken => drop(connection),
        }
    }
}
