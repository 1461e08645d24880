//! A database with faults.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Result,
    database::{Database, Dialect, Executor, Row, Statement, Transaction, TxOptions},
};

use super::Faults;

/// A [`Database`] with faults, also in its transactions.
#[derive(Debug)]
pub struct FaultyDatabase {
    inner: Arc<dyn Database>,
    faults: Faults,
}

impl FaultyDatabase {
    /// Puts faults around a database.
    pub fn new(inner: Arc<dyn Database>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Executor for FaultyDatabase {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        let target = statement.operation().to_owned();
        self.faults
            .run("execute", target, self.inner.execute(statement))
            .await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        let target = statement.operation().to_owned();
        self.faults
            .run("query", target, self.inner.query(statement))
            .await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Database for FaultyDatabase {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn begin(&self, options: TxOptions) -> Result<Box<dyn Transaction>> {
        let inner = self.faults.run("begin", "", self.inner.begin(options)).await?;
        Ok(Box::new(FaultyTransaction {
            inner,
            faults: self.faults.clone(),
        }))
    }

    async fn ping(&self) -> Result<()> {
        self.faults.run("ping", "", self.inner.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.faults.run("close", "", self.inner.close()).await
    }
}

#[derive(Debug)]
struct FaultyTransaction {
    inner: Box<dyn Transaction>,
    faults: Faults,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Executor for FaultyTransaction {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        let target = statement.operation().to_owned();
        self.faults
            .run("execute", target, self.inner.execute(statement))
            .await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        let target = statement.operation().to_owned();
        self.faults
            .run("query", target, self.inner.query(statement))
            .await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transaction for FaultyTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { inner, faults } = *self;
        faults.run("commit", "", inner.commit()).await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let Self { inner, faults } = *self;
        faults.run("rollback", "", inner.rollback()).await
    }
}
