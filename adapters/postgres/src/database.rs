//! The port's handle.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    database::{Database, Dialect, Executor, Row, Statement, Transaction, TxOptions},
};
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;

use crate::{
    config::PostgresOptions, connection::Outcome, error::Phase, keeper, lease::Lease, pool::Pool,
    transaction::PostgresTransaction,
};

/// PostgreSQL behind the `Database` port. Cheap to clone; clones share the connections.
///
/// # Values
/// The server says which type each parameter and column has, and values are written and read accordingly; nothing
/// depends on what was bound first, and `Null` fits everywhere. Integers fit `smallint`, `integer`, `bigint`,
/// `numeric` and `double precision`, and are refused with `InvalidInput` when they are too large; text fits `text` and
/// its kin, enums, `uuid`, `json`, `jsonb`, `numeric`, `date`, `time` and both timestamps; what is bound where text is
/// wanted becomes text, a point in time with six digits of a second, which sorts as time does. A parameter nothing is
/// known about, as in `SELECT $1`, is text: write `CAST($1 AS BIGINT)`. `date` and `time` are read as text,
/// `timestamp` as if it were UTC. For other types (`interval`, `inet`, ranges, …) go by text: `$1::text::interval` and
/// `CAST(column AS TEXT)`.
///
/// # Connections
/// Statements are prepared once per connection. No ping is spent on a connection that worked within the last second;
/// after a second without use, or after any connection broke, it is asked first. A future that is dropped while its
/// statement runs closes the connection, which makes the server stop within about a second; a transaction that is
/// dropped between statements is rolled back in the background and its connection kept. What a statement sets for the
/// session (`SET`, `LISTEN`, `set_config`, a temporary table, …) ends with the transaction it stands in, or at once, with the
/// connection. Session-level advisory locks (`pg_advisory_lock`), and what functions set, would stay with a connection
/// somebody else gets: use `pg_advisory_xact_lock`, and `SET` or `set_config` in a statement of their own.
///
/// # Changed tables
/// A prepared statement whose columns changed (`SELECT *` after `ALTER TABLE`) is prepared anew and repeated; inside a
/// transaction it fails once with `Temporary`/`Conflict`, which `with_transaction_opts` repeats. A parameter keeps the
/// type it had until its connection is replaced, when another process changed it.
///
/// # A server that takes no writes
/// With `require_writable` a standby counts as unavailable: `ping` fails, and connections that meet one are closed, so
/// that after a failover the new primary is found.
///
/// # PgBouncer
/// Session mode works, with `ignore_startup_parameters = options` there and the time limits, which it then does not hand
/// on, set for the role: `ALTER ROLE app SET statement_timeout = '30s'`, the same as `statement_timeout` here. Where the server
/// has another statement timeout, the start is refused; the other limits are not looked at. Transaction mode does not work: its
/// statements and settings would meet other connections. It is refused too, unless the role has that timeout, when it
/// cannot be told from session mode.
#[derive(Debug, Clone)]
pub struct PostgresDatabase {
    pool: Arc<Pool>,
    /// The keepers, ended with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

impl PostgresDatabase {
    /// Connects once, to find out what is wrong while somebody is looking; the pool grows when it is used. From then on
    /// it recovers by itself whenever the server does.
    ///
    /// # Errors
    /// Within `connection_timeout`, naming the server: `InvalidInput` for wrong options, `Temporary`/`Unavailable` when it
    /// cannot be reached, is starting, or takes no writes though it should; `Unauthorized` for a wrong user or password,
    /// `Permanent`/`FailedPrecondition` for a database that does not exist or a TLS mismatch, `Permanent` for something
    /// that is no PostgreSQL.
    pub async fn connect(options: PostgresOptions) -> Result<Self> {
        Self::open(options)
            .await
            .map_err(|error| error.with_operation("database.connect"))
    }

    async fn open(options: PostgresOptions) -> Result<Self> {
        let (pool, unfinished) = Pool::new(options)?;
        drop(pool.acquire().await?);
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper::finish(Arc::clone(&pool), unfinished));
        tasks.spawn(keeper::keep(Arc::clone(&pool)));
        Ok(Self {
            pool,
            _tasks: Arc::new(tasks),
        })
    }

    /// A connection of the pool in the driver's form, for what the port does not have: checked queries, `COPY`, rows as a
    /// stream. Give it back by dropping it; in the background a transaction left open is then rolled back, and all that was
    /// made for the session discarded: settings, prepared statements, temporary tables, locks.
    ///
    /// # Errors
    /// As any statement's when no connection can be had.
    pub async fn acquire(&self) -> Result<RawConnection> {
        Ok(RawConnection {
            lease: self.pool.acquire().await?,
        })
    }

    async fn run(&self, method: &'static str, statement: Statement, rows: bool) -> Result<Outcome> {
        let mut lease = self.lease(method).await?;
        let result = lease.run(method, statement, Phase::Autocommit, rows).await;
        result.map_err(|fault| fault.error)
    }

    async fn lease(&self, method: &'static str) -> Result<Lease> {
        self.pool
            .acquire()
            .await
            .map_err(|error| error.with_operation(method))
    }
}

#[async_trait]
impl Executor for PostgresDatabase {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        Ok(self.run("database.execute", statement, false).await?.changed)
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        Ok(self.run("database.query", statement, true).await?.rows)
    }
}

#[async_trait]
impl Database for PostgresDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn begin(&self, options: TxOptions) -> Result<Box<dyn Transaction>> {
        let lease = self.lease("database.begin").await?;
        Ok(Box::new(PostgresTransaction::begin(lease, options).await?))
    }

    /// Also asks whether the server takes writes, when it has to.
    async fn ping(&self) -> Result<()> {
        let mut lease = self.lease("database.ping").await?;
        let writable = self.pool.options.require_writable;
        let checked = lease
            .limited(Phase::Prepare, async |connection| {
                connection.check(writable).await
            })
            .await;
        checked.map_err(|fault| fault.error.with_operation("database.ping"))
    }

    /// Waits for statements and transactions that run, for `statement_timeout` at most; then what is left is closed when
    /// it is dropped, and the error is `Temporary`/`Timeout`.
    async fn close(&self) -> Result<()> {
        self.pool
            .close()
            .await
            .map_err(|error| error.with_operation("database.close"))
    }
}

/// A connection of the pool in the driver's form; see [`PostgresDatabase::acquire`].
#[derive(Debug)]
pub struct RawConnection {
    lease: Lease,
}

impl RawConnection {
    /// The driver's connection. It is under the server's statement timeout, but under none of ours.
    ///
    /// # Errors
    /// None in practice: a `RawConnection` has its connection until it is dropped.
    pub fn get(&mut self) -> Result<&mut PgConnection> {
        Ok(self.lease.connection()?.raw_mut())
    }

    /// What an error of the driver is in cqi's terms, with the server's name and without values.
    pub fn explain(&self, error: sqlx::Error) -> Error {
        self.lease.explain(error)
    }
}
