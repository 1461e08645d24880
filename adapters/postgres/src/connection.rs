//! One connection and what is known of its state.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cqi_core::{
    Result,
    database::{Row, Value},
};
use futures::TryStreamExt as _;
use sqlx::{
    ConnectOptions as _, Connection as _, Either, Executor as _, Row as _, SqlStr,
    postgres::{PgConnectOptions, PgConnection},
};
use tokio::time::Instant;

use crate::{
    error::{Fate, Fault, Phase, classify, pooler, read_only},
    statement::{Prepared, Traits, one_statement, trusted},
};

/// The most prepared statements of a connection; then all are forgotten.
pub(crate) const STATEMENTS: usize = 256;

/// How often a statement is prepared anew because tables were changed under it.
const REPEATS: u32 = 3;

/// Has the server look once a second whether the client of a running statement is still there. Not every platform of a
/// server can.
const LOOK_FOR_CLIENT: &str = "SET client_connection_check_interval = 1000";

async fn look_for_client(raw: &mut PgConnection) -> sqlx::Result<()> {
    match raw.execute(LOOK_FOR_CLIENT).await {
        Ok(_) | Err(sqlx::Error::Database(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the server ends statements after this time, as it was told when the connection was opened (F-DB-11).
async fn has_timeout(raw: &mut PgConnection, limit: Duration) -> sqlx::Result<bool> {
    let millis = limit.as_millis();
    let asked = format!("SELECT current_setting('statement_timeout')::interval = '{millis} ms'");
    let row = raw.fetch_one(sqlx::raw_sql(trusted(&asked))).await?;
    let same = row.try_get_raw(0)?;
    Ok(same.as_str().is_ok_and(|same| same == "t"))
}

#[derive(Debug)]
pub(crate) struct Connection {
    raw: PgConnection,
    prepared: HashMap<SqlStr, Arc<Prepared>>,
    /// Something was sent whose answer was not seen to its end.
    busy: bool,
    /// `BEGIN` was sent, and no successful `COMMIT` or `ROLLBACK` since.
    in_transaction: bool,
    /// Somebody used it past this type; it may be in any state.
    handled: bool,
    /// The server is gone, or of no use.
    lost: bool,
    /// It works, but nobody else may get it.
    retired: bool,
    /// Tables were changed.
    schema_changed: bool,
    /// What it knows of the server and its tables is of this time, see `Pool`.
    pub(crate) generation: u64,
    pub(crate) expires: Instant,
    pub(crate) idle_since: Instant,
}

/// What a statement gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) changed: u64,
    pub(crate) rows: Vec<Row>,
}

/// What becomes of a connection that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// It can be lent out again.
    Clean,
    /// A transaction has to be rolled back first.
    Dirty,
    /// It must be closed.
    Broken,
}

impl Connection {
    /// Opens a connection; the caller sets the limit.
    pub(crate) async fn open(
        options: &PgConnectOptions,
        statement_timeout: Duration,
        writable: bool,
        lifetime: Duration,
    ) -> Result<Self> {
        let opened = async {
            let mut raw = options.connect().await?;
            look_for_client(&mut raw).await?;
            let limited = has_timeout(&mut raw, statement_timeout).await?;
            Ok((raw, limited))
        };
        let (raw, limited) = opened
            .await
            .map_err(|error| classify(error, Phase::Connect, false).error)?;
        if !limited {
            let why = "the server's statement_timeout is not the one asked for";
            return Err(pooler(why));
        }
        let now = Instant::now();
        let mut connection = Self {
            raw,
            prepared: HashMap::new(),
            busy: false,
            in_transaction: false,
            handled: false,
            lost: false,
            retired: false,
            schema_changed: false,
            generation: 0,
            expires: now + lifetime,
            idle_since: now,
        };
        connection.check(writable).await.map_err(|fault| fault.error)?;
        Ok(connection)
    }

    /// Whether the server answers, and takes writes if it has to.
    pub(crate) async fn check(&mut self, writable: bool) -> Result<(), Fault> {
        self.busy = true;
        let row = self.raw.fetch_one("SHOW transaction_read_only").await;
        self.busy = false;
        let row = row.map_err(|error| classify(error, Phase::Connect, false))?;
        let refuses = row
            .try_get_raw(0)
            .is_ok_and(|value| value.as_str().is_ok_and(|text| text == "on"));
        if refuses && writable {
            self.lost = true;
            return Err(Fault {
                error: read_only(),
                fate: Fate::Lost,
            });
        }
        Ok(())
    }

    /// Runs a statement to its end. Dropping the future leaves the connection busy, so it will be closed.
    pub(crate) async fn run(
        &mut self,
        text: &str,
        values: &[Value],
        phase: Phase,
        rows: bool,
    ) -> Result<Outcome, Fault> {
        self.busy = true;
        let result = self.try_run(text, values, phase, rows).await;
        self.busy = false;
        self.note(&result);
        result
    }

    fn note<T>(&mut self, result: &Result<T, Fault>) {
        if let Err(fault) = result {
            self.lost |= fault.fate == Fate::Lost;
        }
    }

    async fn try_run(
        &mut self,
        text: &str,
        values: &[Value],
        phase: Phase,
        rows: bool,
    ) -> Result<Outcome, Fault> {
        let mut prepared = match self.prepared.get(text) {
            Some(prepared) => Arc::clone(prepared),
            None => {
                let traits = Traits::of(text).map_err(Fault::ours)?;
                let text = trusted(text);
                self.retired |= traits.changes_session;
                if traits.several {
                    one_statement(rows, values).map_err(Fault::ours)?;
                    return self.run_several(text, traits, phase).await;
                }
                self.prepare(text, traits, phase).await?
            }
        };
        self.retired |= prepared.traits.changes_session;
        self.schema_changed |= prepared.traits.changes_schema;
        let mut repeats = 0;
        loop {
            match self.run_prepared(&prepared, values, phase, rows).await {
                // F-DB-04: refused before it ran, so it may be repeated, where no transaction was lost over it. Tables
                // that are changed again in the meantime are allowed for.
                Err(Fault {
                    fate: Fate::Stale, ..
                }) if phase == Phase::Autocommit && !prepared.traits.commits && repeats < REPEATS => {
                    repeats += 1;
                    self.forget().await?;
                    // Tells the other connections.
                    self.schema_changed = true;
                    prepared = self.prepare(prepared.sql(), prepared.traits, phase).await?;
                }
                other => return other,
            }
        }
    }

    async fn prepare(&mut self, text: SqlStr, traits: Traits, phase: Phase) -> Result<Arc<Prepared>, Fault> {
        if self.prepared.len() >= STATEMENTS {
            self.forget().await?;
        }
        // What breaks here has not run yet, but in a transaction that said what it is.
        let phase = if phase == Phase::Autocommit {
            Phase::Prepare
        } else {
            phase
        };
        let raw = self
            .raw
            .prepare(text.clone())
            .await
            .map_err(|error| classify(error, phase, false))?;
        let prepared = Arc::new(Prepared::new(raw, traits));
        self.prepared.insert(text, Arc::clone(&prepared));
        Ok(prepared)
    }

    async fn run_prepared(
        &mut self,
        prepared: &Prepared,
        values: &[Value],
        phase: Phase,
        rows: bool,
    ) -> Result<Outcome, Fault> {
        let arguments = prepared.bind(values).map_err(Fault::ours)?;
        let (mut outcome, mut undecodable) = (Outcome::default(), None);
        let mut steps = self
            .raw
            .fetch_many(sqlx::Statement::query_with(&prepared.raw, arguments));
        loop {
            match steps.try_next().await {
                Ok(Some(Either::Left(done))) => outcome.changed += done.rows_affected(),
                Ok(Some(Either::Right(row))) if rows && undecodable.is_none() => match prepared.row(&row) {
                    Ok(row) => outcome.rows.push(row),
                    // The rest is still taken, so that the connection can be used on.
                    Err(error) => undecodable = Some(error),
                },
                Ok(Some(Either::Right(_))) => {}
                Ok(None) => break,
                Err(error) => {
                    let mut fault = classify(error, phase, !values.is_empty());
                    if phase == Phase::Autocommit && prepared.traits.commits {
                        fault.error = fault.error.maybe_applied();
                    }
                    return Err(fault);
                }
            }
        }
        if !prepared.traits.changes_rows {
            outcome.changed = 0;
        }
        match undecodable {
            Some(error) if phase == Phase::Autocommit && prepared.traits.changes_rows => {
                Err(Fault::ours(error.maybe_applied()))
            }
            Some(error) => Err(Fault::ours(error)),
            None => Ok(outcome),
        }
    }

    /// Several statements go as one text, without parameters; outside of a transaction they are one.
    async fn run_several(&mut self, text: SqlStr, traits: Traits, phase: Phase) -> Result<Outcome, Fault> {
        let done = self.raw.execute(sqlx::raw_sql(text)).await;
        let done = done.map_err(|error| classify(error, phase, false))?;
        self.schema_changed = true;
        let changed = if traits.changes_rows {
            done.rows_affected()
        } else {
            0
        };
        Ok(Outcome {
            changed,
            rows: Vec::new(),
        })
    }

    /// Begins a transaction. When the future is dropped, the connection is closed.
    pub(crate) async fn begin(&mut self, text: &'static str) -> Result<(), Fault> {
        self.in_transaction = true;
        self.control(text, Phase::Prepare).await
    }

    /// Commits or rolls back.
    pub(crate) async fn end(&mut self, text: &'static str, phase: Phase) -> Result<(), Fault> {
        self.control(text, phase).await?;
        self.in_transaction = false;
        Ok(())
    }

    async fn control(&mut self, text: &'static str, phase: Phase) -> Result<(), Fault> {
        self.busy = true;
        let result = self.raw.execute(text).await;
        self.busy = false;
        // What is deferred to the end of a transaction may tell of values that its statements had.
        let result = result.map(drop).map_err(|error| classify(error, phase, true));
        self.note(&result);
        result
    }

    /// Brings a connection of an earlier generation, or one that was idle for long, up to date.
    pub(crate) async fn refresh(&mut self, generation: u64, writable: bool) -> Result<(), Fault> {
        self.check(writable).await?;
        if self.generation != generation {
            self.forget().await?;
            self.generation = generation;
        }
        Ok(())
    }

    /// Forgets the prepared statements, here, in the driver and on the server.
    async fn forget(&mut self) -> Result<(), Fault> {
        self.prepared.clear();
        let cleared = self.raw.clear_cached_statements().await;
        cleared.map_err(|error| classify(error, Phase::Prepare, false))
    }

    /// The driver's connection, for what the port cannot do; what is done with it is not seen here.
    pub(crate) fn raw_mut(&mut self) -> &mut PgConnection {
        self.handled = true;
        &mut self.raw
    }

    /// Whether a statement's end was not seen, or the server is gone.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.busy || self.lost
    }

    /// It does not answer any more.
    pub(crate) fn give_up(&mut self) {
        self.lost = true;
    }

    /// Whether tables were changed; asked once, when the connection is given back.
    pub(crate) fn take_schema_changed(&mut self) -> bool {
        std::mem::take(&mut self.schema_changed)
    }

    /// What becomes of it now that its loan ends.
    pub(crate) fn release(&self, now: Instant) -> Release {
        if self.busy || self.lost || self.retired || now >= self.expires {
            Release::Broken
        } else if self.in_transaction || self.handled {
            Release::Dirty
        } else {
            Release::Clean
        }
    }

    /// Ends what a loan left behind.
    pub(crate) async fn repair(&mut self) -> Result<(), Fault> {
        // The server warns of a ROLLBACK without a transaction, which is the usual case here.
        const QUIETLY: &str = "SET LOCAL client_min_messages = error; ROLLBACK";
        let handled = std::mem::take(&mut self.handled);
        let quiet = handled && !self.in_transaction;
        if !quiet || self.end(QUIETLY, Phase::Prepare).await.is_err() {
            self.end("ROLLBACK", Phase::Prepare).await?;
        }
        if handled {
            self.renew().await?;
        }
        Ok(())
    }

    /// Makes the session as it was when it was opened.
    async fn renew(&mut self) -> Result<(), Fault> {
        self.forget().await?;
        self.control("DISCARD ALL", Phase::Prepare).await?;
        let looks = look_for_client(&mut self.raw).await;
        looks.map_err(|error| classify(error, Phase::Prepare, true))?;
        // A COPY that was cut off leaves an answer behind, and the driver takes each for the one to what it asks next. Here
        // it wants a row, which those before have not.
        self.check(false).await
    }

    /// Closes it in order.
    pub(crate) async fn close(self) {
        if let Err(error) = self.raw.close().await {
            tracing::debug!(%error, "closing a PostgreSQL connection");
        }
    }
}
