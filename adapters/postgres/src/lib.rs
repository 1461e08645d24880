//! The database on PostgreSQL 14 and later, for cqi.
//!
//! ```no_run
//! use cqi_core::database::{DatabaseExt, Executor, sql};
//! use cqi_postgres::{PostgresDatabase, PostgresOptions};
//!
//! # async fn example() -> cqi_core::Result<()> {
//! let options = PostgresOptions::from_url("postgres://app:secret@localhost/positions")?;
//! let db = PostgresDatabase::connect(options).await?;
//! db.execute(sql("UPDATE asset SET name = $1 WHERE id = $2").bind("Bitcoin").bind(7)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`PostgresDatabase`] implements the `Database` port; what it promises beyond the port stands there. Health is core's
//! `DatabaseChecker` over it, migrations are core's `Migrations`.

mod check;
mod config;
mod connection;
mod database;
mod error;
mod keeper;
mod lease;
mod opening;
mod outage;
mod pool;
mod statement;
mod transaction;
mod url;
mod values;

pub use self::{
    config::{PostgresOptions, TlsMode, TlsOptions},
    database::{PostgresDatabase, RawConnection},
};
