//! A connection on loan, and what is run on it.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Error, Result,
    database::{Statement, outline},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use crate::{
    connection::{Connection, Outcome, Release},
    error::{Fate, Fault, Phase, classify, timed_out},
    keeper, opening,
    pool::{Pool, Unfinished, closed},
};

/// How much longer than the server's own limit we wait for a statement.
const GRACE: Duration = Duration::from_millis(500);

/// A connection on loan. Dropping it gives the connection back from whatever state it is in.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Both are there but while the lease is made or dropped.
    connection: Option<Connection>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
}

impl Lease {
    /// With a connection that is ready for use, or before [`Lease::prepare`].
    pub(crate) fn new(
        pool: &Arc<Pool>,
        connection: Option<Connection>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            connection,
            permit: Some(permit),
            pool: Arc::clone(pool),
        }
    }

    /// Brings the connection up to date, takes another one, or opens one.
    pub(crate) async fn prepare(&mut self, generation: u64) -> Result<()> {
        while let Some(mut connection) = self.connection.take().or_else(|| self.pool.pop()) {
            if Instant::now() >= connection.expires {
                continue;
            }
            // A server that is gone without a word must not use up all of the caller's time.
            let limit = self.pool.options.connection_timeout / 2;
            let refreshed = timeout(
                limit,
                connection.refresh(generation, self.pool.options.require_writable),
            )
            .await;
            match refreshed {
                Ok(Ok(())) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Ok(Err(fault)) => {
                    tracing::debug!(error = %fault.error.chain(), "a PostgreSQL connection was discarded")
                }
                Err(_) => {
                    // The others may be as silent, and there is no time to ask each.
                    drop(self.pool.take_idle());
                    tracing::debug!(
                        ?limit,
                        "idle PostgreSQL connections do not answer, and were discarded"
                    );
                    break;
                }
            }
        }
        self.connection = Some(opening::open(&self.pool, &mut self.permit).await?);
        Ok(())
    }

    /// The connection, which is there as long as a caller holds the lease.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection> {
        self.connection.as_mut().ok_or_else(closed)
    }

    /// As [`Lease::connection`], to look at.
    pub(crate) fn peek(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// What an error of the driver is in our terms.
    pub(crate) fn explain(&self, error: sqlx::Error) -> Error {
        self.pool
            .at_server(classify(error, Phase::Autocommit, true).error)
    }

    /// Runs a statement under the statement timeout; logs it when slow. Errors name the server, the port's method and
    /// the statement's first word.
    pub(crate) async fn run(
        &mut self,
        method: &'static str,
        statement: Statement,
        phase: Phase,
        rows: bool,
    ) -> Result<Outcome, Fault> {
        let operation = known(statement.operation());
        let started = Instant::now();
        let (text, values) = statement.into_parts();
        let result = self
            .limited(phase, async |connection| {
                connection.run(&text, &values, phase, rows).await
            })
            .await;
        let elapsed = started.elapsed();
        if elapsed >= self.pool.options.slow_threshold {
            let elapsed_ms = elapsed.as_secs_f64() * 1e3;
            tracing::warn!(
                operation,
                statement = outline(&text),
                elapsed_ms,
                failed = result.is_err(),
                "slow statement"
            );
        }
        result.map_err(|fault| Fault {
            error: fault
                .error
                .with_operation(method)
                .with_context("statement", operation),
            ..fault
        })
    }

    /// Runs something on the connection under the statement timeout; a connection that did not answer is given up.
    pub(crate) async fn limited<T>(
        &mut self,
        phase: Phase,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let limit = self.pool.options.statement_timeout;
        let connection = self.connection().map_err(Fault::ours)?;
        let result = match timeout(limit + GRACE, work(connection)).await {
            Ok(result) => result,
            Err(_) => {
                connection.give_up();
                Err(timed_out(limit, phase))
            }
        };
        result.map_err(|fault| {
            if fault.fate != Fate::Keep {
                self.pool.suspect_all();
            }
            Fault {
                error: self.pool.at_server(fault.error),
                ..fault
            }
        })
    }
}

/// The first word of a statement as a label of bounded length.
fn known(operation: &str) -> &'static str {
    const WORDS: [&str; 20] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "WITH",
        "MERGE",
        "SAVEPOINT",
        "RELEASE",
        "ROLLBACK",
        "CREATE",
        "ALTER",
        "DROP",
        "TRUNCATE",
        "SET",
        "SHOW",
        "CALL",
        "DO",
        "LOCK",
        "VALUES",
        "EXPLAIN",
    ];
    WORDS
        .iter()
        .find(|word| word.eq_ignore_ascii_case(operation))
        .copied()
        .unwrap_or("other")
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut connection), Some(permit)) = (self.connection.take(), self.permit.take()) else {
            return;
        };
        if connection.take_schema_changed() {
            self.pool.suspect_all();
        }
        match connection.release(Instant::now()) {
            Release::Clean => self.pool.give_back(connection),
            // Without a keeper the connection is closed, which rolls back as well.
            Release::Dirty => {
                let repaired = Box::pin(keeper::repaired(connection));
                self.pool.leave(Unfinished(repaired, permit));
            }
            // Closing the socket: the server ends what runs there.
            Release::Broken => drop(connection),
        }
    }
}
