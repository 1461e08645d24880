//! The database port: what an adapter implements, and the contract the conformance suite checks.

use std::fmt;

use async_trait::async_trait;

use super::{Row, Statement};
use crate::Result;

/// Which SQL the database speaks, for what is not portable.
///
/// Portable are: `$n` parameters, `RETURNING`, `ON CONFLICT`, CTEs, window functions, transactions, JSON as text.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.
    Sqlite,
    /// PostgreSQL 14 and later.
    Postgres,
}

/// How much a transaction sees of others.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// What the database does by default.
    #[default]
    Default,
    /// As if transactions ran one after another; a conflict is `Temporary`/`Conflict`.
    Serializable,
}

/// How to begin a transaction.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TxOptions {
    /// How much it sees of others.
    pub isolation: Isolation,
    /// Whether it may only read; a write is then an error.
    pub read_only: bool,
}

/// Runs statements. Repositories take `&dyn Executor` and so work in and out of a transaction.
///
/// # Behaviour
/// - `execute` takes several statements in one text, without values. Outside of a transaction they are one: all take effect
///   or none. A query of several, or values for several, are `InvalidInput`.
/// - A failed statement names its operation and code, never a parameter's value.
/// - A unique violation is `Permanent`/`AlreadyExists`, a serialization failure or deadlock `Temporary`/`Conflict`, any
///   other broken constraint `InvalidInput`/`FailedPrecondition`, bad SQL `Permanent`, no free connection in time
///   `Temporary`/`Exhausted`, an unreachable server `Temporary`/`Unavailable`.
/// - Every method is cancel-safe: dropping its future leaves no connection in an unknown state. The statement may have
///   run.
#[async_trait]
pub trait Executor: fmt::Debug + Send + Sync {
    /// Runs a statement and returns the number of rows it changed.
    async fn execute(&self, statement: Statement) -> Result<u64>;

    /// Runs a statement and returns its rows, all of them.
    async fn query(&self, statement: Statement) -> Result<Vec<Row>>;
}

/// A pool of connections to one database.
///
/// Every method after [`Database::close`] answers `Permanent`/`Closed`; a second `close` is `Ok`.
#[async_trait]
pub trait Database: Executor + 'static {
    /// Which SQL it speaks.
    fn dialect(&self) -> Dialect;

    /// Begins a transaction on a connection of its own.
    ///
    /// Prefer [`with_transaction`](super::DatabaseExt::with_transaction), which cannot forget to end it.
    async fn begin(&self, options: TxOptions) -> Result<Box<dyn Transaction>>;

    /// Runs `SELECT 1`.
    async fn ping(&self) -> Result<()>;

    /// Waits for running statements and closes the connections. Idempotent.
    async fn close(&self) -> Result<()>;
}

/// A running transaction. Dropping it rolls back.
///
/// After a statement that failed it takes nothing but a rollback, of the whole or to a savepoint
/// ([`with_savepoint`](super::ExecutorExt::with_savepoint)); everything else, `commit` too, is
/// `Permanent`/`FailedPrecondition`.
#[async_trait]
pub trait Transaction: Executor + 'static {
    /// Makes the changes lasting.
    ///
    /// # Errors
    /// If the connection breaks while committing, the error says
    /// [`may_have_applied`](crate::Error::may_have_applied).
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Takes the changes back.
    async fn rollback(self: Box<Self>) -> Result<()>;
}

const _: fn(&dyn Executor, &dyn Database, &dyn Transaction) = |_, _, _| ();
