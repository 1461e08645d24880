//! The embedded database: SQLite, in memory or in a file.

mod check;
mod connection;
mod error;
mod options;
mod pool;
#[cfg(test)]
mod tests;
mod transaction;
mod values;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::options::SqliteOptions;
use self::{pool::Pool, transaction::SqliteTransaction};
use super::{Database, Dialect, Executor, Row, Statement, Transaction, TxOptions, sql};
use crate::Result;

/// SQLite behind the [`Database`] port. Cheap to clone; clones share the connections.
///
/// # Durability
/// In a file, a commit that was answered with `Ok` survives the end of the process and a power cut, as far as the disk
/// keeps its word (WAL, `synchronous=FULL`). In memory, nothing outlives the last clone.
///
/// # Concurrency
/// Readers run side by side with one writer. A second writer waits for `busy_timeout`; those of one process write in the
/// order in which they came. A transaction that is not `read_only` takes the write lock when it begins, so it cannot fail
/// later because somebody else wrote; every transaction is serializable. In memory there is one connection: whoever holds a
/// transaction and asks the database itself for another statement waits for `acquire_timeout` and fails.
///
/// # Storage
/// `Bool` is kept as 0 or 1, `Decimal`, `Json` and `Uuid` (hyphenated) as text, `Timestamp` as text in UTC with six
/// digits of a second (`2026-01-31T09:00:00.000000Z`), which sorts as time does; finer digits are cut off. Give these
/// columns the type `TEXT`: under `NUMERIC` or `JSON` SQLite would make numbers of what looks like one. NaN and arrays
/// are refused with `InvalidInput`/`Unsupported`.
///
/// # Statements
/// Parameters are `$1` to `$n`; their number must be that of the bound values. A text may hold several statements, as
/// migrations do, which outside of a transaction run in one; the number of changed rows is then no more than a hint.
/// After tables were changed by another process, a `SELECT *` can fail once per connection with
/// `Temporary`/`Unavailable`; name the columns to avoid that.
///
/// # Tests
/// Statements run on a thread of their own, for which tokio's paused clock does not wait: it would jump to the statement
/// timeout. Tests on this database use the real clock.
#[derive(Debug, Clone)]
pub struct SqliteDatabase {
    pool: Arc<Pool>,
}

impl SqliteDatabase {
    /// Opens the database, creating the file if it is missing.
    ///
    /// # Errors
    /// `InvalidInput` for wrong options, or a path that is a folder or in none; `Permanent` when the file cannot be
    /// opened or is no database, `Temporary`/`Timeout` when that took longer than `acquire_timeout`. The error names
    /// the path.
    pub async fn open(options: SqliteOptions) -> Result<Self> {
        options.validate()?;
        Ok(Self {
            pool: Pool::open(options).await?,
        })
    }

    /// An empty database in memory.
    ///
    /// # Errors
    /// `Permanent` or `Temporary` when there is no memory or no thread for it.
    pub async fn in_memory() -> Result<Self> {
        Self::open(SqliteOptions::memory()).await
    }

    async fn run(
        &self,
        method: &'static str,
        statement: Statement,
        rows: bool,
    ) -> Result<connection::Outcome> {
        let several = check::is_several(statement.text());
        let writes = several || check::writes(statement.operation(), statement.text());
        let mut lease = self
            .pool
            .acquire(writes)
            .await
            .map_err(|error| error.with_operation(method))?;
        if !several {
            return lease.run(method, statement, false, rows).await;
        }
        // All of them or none, as on PostgreSQL. Dropped, it is rolled back.
        let transaction = SqliteTransaction::begin(lease, TxOptions::default()).await?;
        let outcome = transaction.run(method, statement, rows).await?;
        Box::new(transaction).commit().await?;
        Ok(outcome)
    }
}

#[async_trait]
impl Executor for SqliteDatabase {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        Ok(self.run("database.execute", statement, false).await?.changed)
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        Ok(self.run("database.query", statement, true).await?.rows)
    }
}

#[async_trait]
impl Database for SqliteDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn begin(&self, options: TxOptions) -> Result<Box<dyn Transaction>> {
        let lease = self
            .pool
            .acquire(!options.read_only)
            .await
            .map_err(|error| error.with_operation("database.begin"))?;
        Ok(Box::new(SqliteTransaction::begin(lease, options).await?))
    }

    async fn ping(&self) -> Result<()> {
        self.run("database.ping", sql("SELECT 1"), false).await.map(drop)
    }

    /// Waits for statements and transactions that run, for `statement_timeout` at most; then what is left is cut off
    /// when it is dropped, and the error is `Temporary`/`Timeout`.
    async fn close(&self) -> Result<()> {
        self.pool
            .close()
            .await
            .map_err(|error| error.with_operation("database.close"))
    }
}
