//! The connections: who has one, who waits, and what becomes of one that is given back.
//!
//! The driver's own pool is not used: it cannot interrupt a statement, would throw away the one connection that is the
//! database in memory, and spends a task and two pings on every call.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::sqlite::SqliteConnectOptions;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{Instant, timeout},
};

use super::{
    SqliteOptions,
    connection::{Checked, Connection, Outcome},
    error::{classify, explain_open},
};
use crate::{
    Code, Error, Result,
    database::{Statement, outline},
};

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) options: SqliteOptions,
    connect: SqliteConnectOptions,
    /// One permit per connection; fair.
    slots: Arc<Semaphore>,
    /// Whose turn it is to write; fair. SQLite itself lets whoever comes at the right moment go first, so that one of
    /// several busy writers could wait for ever.
    turn: Arc<Semaphore>,
    /// The next one to lend out is the last; dirty ones are at the front. Locked for a push or pop only.
    idle: Mutex<Vec<Connection>>,
    closed: AtomicBool,
    /// Goes up when a statement has changed tables: connections that know an older schema are reset before use.
    generation: AtomicU64,
}

/// A connection on loan. Dropping it gives the connection back from whatever state it is in.
#[derive(Debug)]
pub(super) struct Lease {
    /// Always there but while the lease is made or dropped.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    // Both released after the connection is back.
    _turn: Option<OwnedSemaphorePermit>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) async fn open(options: SqliteOptions) -> Result<Arc<Self>> {
        let pool = Self {
            connect: options.connect_options(),
            slots: Arc::new(Semaphore::new(options.max_connections as usize)),
            turn: Arc::new(Semaphore::new(1)),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            options,
        };
        let first = match timeout(pool.options.acquire_timeout, pool.connect()).await {
            Ok(connection) => connection?,
            Err(_) => return Err(Error::timeout(pool.options.acquire_timeout)),
        };
        pool.lock().push(first);
        Ok(Arc::new(pool))
    }

    /// A connection for one caller. One that writes waits for its turn first, so that readers find a connection.
    ///
    /// Cancel safety: nothing is lost when the future is dropped.
    pub(super) async fn acquire(self: &Arc<Self>, writes: bool) -> Result<Lease> {
        self.check_open()?;
        // Of a single connection the turn is as well.
        let turn = if writes && self.options.max_connections > 1 {
            Some(self.take_turn().await?)
        } else {
            None
        };
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(closed()),
            Err(TryAcquireError::NoPermits) => {
                let waiting = timeout(
                    self.options.acquire_timeout,
                    Arc::clone(&self.slots).acquire_owned(),
                );
                waiting
                    .await
                    .map_err(|_| self.exhausted())?
                    .map_err(|_| closed())?
            }
        };
        self.check_open()?;
        let idle = self.lock().pop();
        let mut lease = Lease {
            connection: idle,
            pool: Arc::clone(self),
            _turn: turn,
            _permit: permit,
        };
        let generation = self.generation.load(Ordering::Acquire);
        if !lease
            .connection
            .as_ref()
            .is_some_and(|connection| connection.is_ready(generation))
        {
            timeout(self.options.acquire_timeout, lease.prepare(generation))
                .await
                .map_err(|_| self.exhausted())??;
        }
        Ok(lease)
    }

    /// As long as SQLite itself would wait for the lock.
    async fn take_turn(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() {
            return Ok(turn);
        }
        let limit = self.options.busy_timeout;
        let waiting = timeout(limit, Arc::clone(&self.turn).acquire_owned());
        waiting
            .await
            .map_err(|_| {
                Error::temporary(format!("the database is locked: others wrote for {limit:?}"))
                    .with_code(Code::Conflict)
            })?
            .map_err(|_| closed())
    }

    /// Opens a connection. The switch to WAL does not wait for locks by itself, so it is repeated; the caller sets the
    /// limit.
    async fn connect(&self) -> Result<Connection> {
        loop {
            match Connection::open(&self.connect)
                .await
                .map_err(|error| classify(error, false))
            {
                Err(error) if error.code() == Some(Code::Conflict) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(explain_open(error, self.options.path.as_deref()).await),
                Ok(connection) => return Ok(connection),
            }
        }
    }

    /// Waits for all loans to end, then closes the connections.
    pub(super) async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let limit = self.options.statement_timeout;
        let ended = timeout(limit, async {
            // An error: closed before.
            if let Ok(_all) = self.slots.acquire_many(self.options.max_connections).await {
                let idle = std::mem::take(&mut *self.lock());
                for connection in idle {
                    connection.close().await;
                }
            }
        })
        .await;
        self.slots.close();
        ended.map_err(|_| {
            self.lock().clear();
            Error::temporary(format!("connections were still in use after {limit:?}"))
                .with_code(Code::Timeout)
        })
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(closed())
        } else {
            Ok(())
        }
    }

    fn exhausted(&self) -> Error {
        let max = self.options.max_connections as usize;
        Error::temporary(format!(
            "no free connection within {:?}",
            self.options.acquire_timeout
        ))
        .with_code(Code::Exhausted)
        .with_context("max_connections", max)
        .with_context("in_use", max - self.slots.available_permits().min(max))
        .with_context("idle", self.lock().len())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::closed("the database")
}

impl Lease {
    /// Brings the connection into a known state, or opens one.
    async fn prepare(&mut self, generation: u64) -> Result<()> {
        if let Some(connection) = &mut self.connection {
            match connection.reset(generation).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(error = %error.chain(), "an SQLite connection was discarded"),
            }
            self.connection = None;
        }
        if self.pool.options.path.is_none() {
            // A new connection would be a new, empty database.
            return Err(Error::permanent("the database in memory was lost").with_code(Code::Unavailable));
        }
        let mut opened = self.pool.connect().await?;
        opened.generation = generation;
        self.connection = Some(opened);
        Ok(())
    }

    /// The connection, which is there as long as a caller holds the lease.
    pub(super) fn connection(&mut self) -> Result<&mut Connection> {
        self.connection.as_mut().ok_or_else(closed)
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.pool.options.statement_timeout
    }

    /// Checks and runs a caller's statement under the statement timeout; logs it when slow. Errors name the port's
    /// method and the statement's first word.
    pub(super) async fn run(
        &mut self,
        method: &'static str,
        statement: Statement,
        in_transaction: bool,
        rows: bool,
    ) -> Result<Outcome> {
        let operation = known(statement.operation());
        let (limit, slow) = (
            self.pool.options.statement_timeout,
            self.pool.options.slow_threshold,
        );
        let result = match Checked::new(statement, in_transaction, rows) {
            Err(error) => Err(error),
            Ok(checked) => {
                let (text, connection) = (checked.text(), self.connection()?);
                let started = Instant::now();
                let result = match timeout(limit, connection.run(checked, operation, rows)).await {
                    Ok(result) => result,
                    Err(_) => {
                        connection.interrupt();
                        Err(Error::timeout(limit))
                    }
                };
                let elapsed = started.elapsed();
                if elapsed >= slow {
                    let (elapsed_ms, text) = (elapsed.as_secs_f64() * 1e3, outline(text.as_str()));
                    tracing::warn!(
                        operation,
                        statement = text,
                        elapsed_ms,
                        failed = result.is_err(),
                        "slow statement"
                    );
                }
                result
            }
        };
        result.map_err(|error| error.with_operation(method).with_context("statement", operation))
    }
}

/// The first word of a statement as a label of bounded length.
fn known(operation: &str) -> &'static str {
    const WORDS: [&str; 19] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "WITH",
        "REPLACE",
        "CREATE",
        "ALTER",
        "DROP",
        "REINDEX",
        "PRAGMA",
        "SAVEPOINT",
        "RELEASE",
        "ROLLBACK",
        "BEGIN",
        "COMMIT",
        "VALUES",
        "EXPLAIN",
        "VACUUM",
    ];
    WORDS
        .iter()
        .find(|word| word.eq_ignore_ascii_case(operation))
        .copied()
        .unwrap_or("other")
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if connection.release() {
            self.pool.generation.fetch_add(1, Ordering::AcqRel);
        }
        // Dropping a connection ends its thread; SQLite rolls back what is open.
        if connection.is_broken() || self.pool.slots.is_closed() {
            return;
        }
        let mut idle = self.pool.lock();
        let clean = connection.is_ready(self.pool.generation.load(Ordering::Acquire));
        let at = if clean { idle.len() } else { 0 };
        idle.insert(at, connection);
    }
}
