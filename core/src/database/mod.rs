//! SQL behind a port: statements with `$1` parameters in, rows out; nothing is generated or translated.
//!
//! Repositories take [`&dyn Executor`](Executor) and so work in and out of a transaction; who owns a [`Database`] begins
//! transactions, best with [`DatabaseExt::with_transaction`]. The embedded default is `SqliteDatabase` (feature
//! `sqlite`), in memory or in a file. [`GuardedDatabase`] adds deadline, retry and observation to any of them.
//!
//! # SQL that means the same on SQLite and PostgreSQL
//! - Parameters `$1`, `$2`, …, also repeated or out of order; one bound value for each.
//! - `SELECT` with joins, subqueries, `GROUP BY`, `HAVING`, `UNION`, `LIMIT … OFFSET …`, `CASE`, `COALESCE`, `NULLIF`,
//!   `CAST(… AS …)`, `EXISTS`, `IN (…)`, `IS DISTINCT FROM`; `WITH`, also `RECURSIVE`; window functions; `count`, `sum`,
//!   `min`, `max` with `FILTER`; `lower`, `upper`, `length`, `trim`, `substr`, `replace`, `abs`, `||`.
//! - `INSERT … ON CONFLICT (…) DO NOTHING` or `DO UPDATE SET … = excluded.…`; `UPDATE … FROM`; `RETURNING` on all three
//!   writing statements.
//! - `CREATE TABLE` with `PRIMARY KEY`, `UNIQUE`, `NOT NULL`, `CHECK`, `DEFAULT`, `REFERENCES … ON DELETE …` and the types
//!   `BIGINT`, `TEXT`, `DOUBLE PRECISION`; `CREATE [UNIQUE] INDEX`, also partial or over an expression; `CREATE VIEW`.
//! - Savepoints ([`ExecutorExt::with_savepoint`]).
//!
//! Not portable, ask [`Database::dialect`]: generated keys (give ids from the service), `now()` (bind a timestamp), JSON
//! operators beyond `->` and `->>`, arrays, `::type`, `ILIKE` (SQLite's `LIKE` ignores case for ASCII), row locks, `LISTEN`.

mod checker;
mod ext;
mod guarded;
mod migrate;
mod outline;
mod port;
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod value;

#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteDatabase, SqliteOptions};
pub use self::{
    checker::DatabaseChecker,
    ext::{DatabaseExt, ExecutorExt},
    guarded::GuardedDatabase,
    migrate::{Migration, MigrationStatus, Migrations},
    outline::outline,
    port::{Database, Dialect, Executor, Isolation, Transaction, TxOptions},
    row::{FromValue, Row},
    statement::{Statement, sql},
    value::{Decimal, ToValue, Value},
};
