//! SQL behind a port: statements with `$1` parameters in, rows out; nothing is generated or translated.

mod checker;
mod ext;
mod guarded;
mod migrate;
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
    port::{Database, Dialect, Executor, Isolation, Transaction, TxOptions},
    row::{FromValue, Row},
    statement::{Statement, sql},
    value::{Decimal, ToValue, Value},
};
