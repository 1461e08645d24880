//! Databases that lie.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Code, Error, Kind, Result,
    database::{Database, Dialect, Executor, Isolation, Row, Statement, Transaction, TxOptions, Value},
};

use super::lies;

lies! {
    /// What a database can lie about.
    DatabaseLie {
        /// `commit` says `Ok` and rolls back.
        CommitsNothing => a_commit_makes_changes_lasting,
        /// Dropping a transaction commits it as far as it came: there is no transaction at all.
        HasNoTransactions => a_rollback_takes_changes_back,
        /// Errors show the parameters.
        ShowsParameters => no_error_shows_a_parameter,
        /// Every error is called temporary.
        CallsAllTemporary => a_unique_violation_is_already_exists,
        /// Read-only is not passed on.
        IgnoresReadOnly => a_read_only_transaction_refuses_writes,
        /// Read-only is not passed on together with an isolation.
        SerializableMayWrite => a_read_only_transaction_refuses_writes,
        /// `execute` always says one row.
        CountsOne => execute_counts_the_rows_it_changed,
        /// Empty texts are stored as null.
        EmptyIsNull => texts_and_bytes_round_trip,
        /// After `close` everything goes on.
        StaysOpen => close_is_idempotent_and_final,
    }
}

/// Makes a liar of an honest database.
pub fn lying_database(inner: Arc<dyn Database>, lie: DatabaseLie) -> Arc<dyn Database> {
    Arc::new(Liar { inner, lie })
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn Database>,
    lie: DatabaseLie,
}

impl DatabaseLie {
    async fn execute(self, on: &dyn Executor, statement: Statement) -> Result<u64> {
        let statement = self.change(statement);
        let shown = shown(&statement);
        let changed = on
            .execute(statement)
            .await
            .map_err(|error| self.tell(error, &shown))?;
        Ok(if self == Self::CountsOne { 1 } else { changed })
    }

    async fn query(self, on: &dyn Executor, statement: Statement) -> Result<Vec<Row>> {
        let shown = shown(&statement);
        on.query(self.change(statement))
            .await
            .map_err(|error| self.tell(error, &shown))
    }

    fn change(self, statement: Statement) -> Statement {
        if self != Self::EmptyIsNull {
            return statement;
        }
        let (text, values) = statement.into_parts();
        values
            .into_iter()
            .fold(cqi_core::database::sql(text), |statement, value| match value {
                Value::Text(text) if text.is_empty() => statement.bind(Value::Null),
                value => statement.bind(value),
            })
    }

    fn tell(self, error: Error, shown: &str) -> Error {
        match self {
            Self::ShowsParameters => error.with_context("parameters", shown),
            Self::CallsAllTemporary if error.code() != Some(Code::Closed) => {
                Error::from_source(Kind::Temporary, "the database failed", error)
            }
            _ => error,
        }
    }
}

/// The texts among the parameters.
fn shown(statement: &Statement) -> String {
    let texts = statement.params().iter().map(|value| match value {
        Value::Text(text) => text.as_str(),
        other => other.type_name(),
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Executor for Liar {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        self.lie.execute(&*self.inner, statement).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        self.lie.query(&*self.inner, statement).await
    }
}

#[async_trait]
impl Database for Liar {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn begin(&self, mut options: TxOptions) -> Result<Box<dyn Transaction>> {
        if self.lie == DatabaseLie::HasNoTransactions {
            return Ok(Box::new(NoTransaction(Arc::clone(&self.inner))));
        }
        options.read_only &= self.lie != DatabaseLie::IgnoresReadOnly;
        let serializable = options.isolation == Isolation::Serializable;
        options.read_only &= !(serializable && self.lie == DatabaseLie::SerializableMayWrite);
        let inner = self.inner.begin(options).await?;
        Ok(Box::new(LyingTransaction { inner, lie: self.lie }))
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<()> {
        if self.lie == DatabaseLie::StaysOpen {
            Ok(())
        } else {
            self.inner.close().await
        }
    }
}

#[derive(Debug)]
struct LyingTransaction {
    inner: Box<dyn Transaction>,
    lie: DatabaseLie,
}

#[async_trait]
impl Executor for LyingTransaction {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        self.lie.execute(&*self.inner, statement).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        self.lie.query(&*self.inner, statement).await
    }
}

#[async_trait]
impl Transaction for LyingTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { inner, lie } = *self;
        if lie == DatabaseLie::CommitsNothing {
            inner.rollback().await
        } else {
            inner.commit().await
        }
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        self.inner.rollback().await
    }
}

#[derive(Debug)]
struct NoTransaction(Arc<dyn Database>);

#[async_trait]
impl Executor for NoTransaction {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        self.0.execute(statement).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        self.0.query(statement).await
    }
}

#[async_trait]
impl Transaction for NoTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
