//! A transaction on the embedded database.

use async_trait::async_trait;
use tokio::{sync::Mutex, time::timeout};

use super::{
    connection::{Outcome, transaction_lost},
    pool::Lease,
};
use crate::{
    Error, Result,
    database::{Executor, Row, Statement, Transaction, TxOptions},
};

/// A connection with an open transaction. Dropping the lease rolls it back.
#[derive(Debug)]
pub(super) struct SqliteTransaction {
    // Held while a statement runs: a transaction runs one statement after another.
    state: Mutex<State>,
    read_only: bool,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    /// A statement was cut off, or SQLite rolled back by itself: nothing more may run.
    lost: bool,
    /// A statement failed: nothing runs but a rollback, of the whole or to a savepoint. SQLite would go on, PostgreSQL does
    /// not.
    failed: bool,
}

impl SqliteTransaction {
    /// A writing transaction takes the write lock at once: taking it later fails when somebody else wrote in between.
    pub(super) async fn begin(mut lease: Lease, options: TxOptions) -> Result<Self> {
        let text = if options.read_only {
            "PRAGMA query_only = 1; BEGIN"
        } else {
            "BEGIN IMMEDIATE"
        };
        let limit = lease.statement_timeout();
        let begun = timeout(limit, lease.connection()?.begin(text)).await;
        begun
            .unwrap_or_else(|_| Err(Error::timeout(limit)))
            .map_err(|e| e.with_operation("database.begin"))?;
        Ok(Self {
            state: Mutex::new(State {
                lease,
                lost: false,
                failed: false,
            }),
            read_only: options.read_only,
        })
    }

    pub(super) async fn run(
        &self,
        method: &'static str,
        statement: Statement,
        rows: bool,
    ) -> Result<Outcome> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let back = statement.operation().eq_ignore_ascii_case("ROLLBACK");
        if state.is_lost()? || state.failed && !back {
            return Err(transaction_lost().with_operation(method));
        }
        let result = state.lease.run(method, statement, true, rows).await;
        match &result {
            Ok(_) => state.failed &= !back,
            Err(_) => {
                state.failed = true;
                let connection = state.lease.connection()?;
                state.lost = connection.is_cut_off() || !connection.still_in_transaction().await;
            }
        }
        result
    }

    async fn end(self, method: &'static str, text: &'static str) -> Result<()> {
        let State { mut lease, .. } = self.state.into_inner();
        let limit = lease.statement_timeout();
        let ended = timeout(limit, lease.connection()?.end(text)).await;
        ended
            .unwrap_or_else(|_| Err(Error::timeout(limit)))
            .map_err(|error| error.with_operation(method))
    }
}

impl State {
    /// Also when a statement before this one was dropped midway by its caller.
    fn is_lost(&mut self) -> Result<bool> {
        Ok(self.lost || self.lease.connection()?.is_cut_off())
    }
}

#[async_trait]
impl Executor for SqliteTransaction {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        Ok(self.run("database.execute", statement, false).await?.changed)
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        Ok(self.run("database.query", statement, true).await?.rows)
    }
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn commit(mut self: Box<Self>) -> Result<()> {
        let state = self.state.get_mut();
        if state.is_lost()? || state.failed {
            return Err(transaction_lost().with_operation("database.commit"));
        }
        let text = if self.read_only {
            "PRAGMA query_only = 0; COMMIT"
        } else {
            "COMMIT"
        };
        self.end("database.commit", text).await
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        // It is rolled back already or will be when the lease is dropped: that is what was asked for.
        if self.state.get_mut().is_lost()? {
            return Ok(());
        }
        let text = if self.read_only {
            "PRAGMA query_only = 0; ROLLBACK"
        } else {
            "ROLLBACK"
        };
        self.end("database.rollback", text).await
    }
}
