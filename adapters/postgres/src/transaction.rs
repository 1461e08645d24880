//! A transaction: one connection, from `BEGIN` to its end.

use async_trait::async_trait;
use cqi_core::{
    Code, Error, Result,
    database::{Executor, Isolation, Row, Statement, Transaction, TxOptions},
};
use tokio::sync::Mutex;

use crate::{connection::Outcome, error::Phase, lease::Lease};

/// A connection with an open transaction. Dropping the lease rolls it back.
#[derive(Debug)]
pub(crate) struct PostgresTransaction {
    // Held while a statement runs: a transaction runs one statement after another.
    state: Mutex<State>,
    phase: Phase,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    /// A statement failed, so nothing runs but a rollback, to a savepoint or of the whole. The server would go on after one
    /// that was refused before it was sent, SQLite does not.
    failed: bool,
}

impl PostgresTransaction {
    pub(crate) async fn begin(mut lease: Lease, options: TxOptions) -> Result<Self> {
        let serializable = options.isolation == Isolation::Serializable;
        let text = match (serializable, options.read_only) {
            (false, false) => "BEGIN",
            (false, true) => "BEGIN READ ONLY",
            (true, false) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            (true, true) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
        };
        let begun = lease
            .limited(Phase::Prepare, async |connection| connection.begin(text).await)
            .await;
        begun.map_err(|fault| fault.error.with_operation("database.begin"))?;
        Ok(Self {
            state: Mutex::new(State { lease, failed: false }),
            phase: if options.read_only {
                Phase::ReadOnly
            } else {
                Phase::Transaction
            },
        })
    }

    async fn run(&self, method: &'static str, statement: Statement, rows: bool) -> Result<Outcome> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let back = statement.operation().eq_ignore_ascii_case("ROLLBACK");
        if state.is_lost() || state.failed && !back {
            return Err(lost().with_operation(method));
        }
        let result = state.lease.run(method, statement, self.phase, rows).await;
        match &result {
            // Back to a savepoint: the transaction goes on from there.
            Ok(_) => state.failed &= !back,
            Err(_) => state.failed = true,
        }
        result.map_err(|fault| fault.error)
    }
}

impl State {
    /// Also when a statement before this one was dropped midway by its caller.
    fn is_lost(&self) -> bool {
        self.lease.peek().is_none_or(|connection| connection.is_cut_off())
    }
}

/// The error of a transaction that cannot go on.
fn lost() -> Error {
    Error::permanent("the transaction was rolled back after an earlier failure")
        .with_code(Code::FailedPrecondition)
}

#[async_trait]
impl Executor for PostgresTransaction {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        Ok(self.run("database.execute", statement, false).await?.changed)
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        Ok(self.run("database.query", statement, true).await?.rows)
    }
}

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        let mut state = self.state.into_inner();
        // The server would answer such a COMMIT with a rollback, which the driver takes for success.
        if state.failed || state.is_lost() {
            return Err(lost().with_operation("database.commit"));
        }
        let ended = state
            .lease
            .limited(Phase::Commit, async |c| c.end("COMMIT", Phase::Commit).await)
            .await;
        ended.map_err(|fault| fault.error.with_operation("database.commit"))
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let mut state = self.state.into_inner();
        // It is rolled back already or will be when the connection closes: that is what was asked for.
        if state.is_lost() {
            return Ok(());
        }
        let ended = state
            .lease
            .limited(Phase::Prepare, async |c| c.end("ROLLBACK", Phase::Prepare).await)
            .await;
        ended.map_err(|fault| fault.error.with_operation("database.rollback"))
    }
}
