//! One connection: a thread of the driver that runs what is sent to it, in order.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, TryStreamExt as _};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Either, Executor as _, SqlSafeStr as _, SqlStr,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection},
};
use tokio::time::timeout;

use super::{check, error::classify, values};
use crate::{
    Code, Error, Result,
    database::{Row, Statement},
};

/// After how many steps of SQLite's machine a running statement looks whether it is cut off; well below a millisecond.
const STEPS: i32 = 4096;

/// A thread that is about to end takes orders but does not answer.
const PING: Duration = Duration::from_secs(1);

/// Ends whatever a lease left behind. Fails when no transaction is open, which is as well.
const RESET: &str = "PRAGMA query_only = 0; ROLLBACK";

/// A connection and what is known of its state.
#[derive(Debug)]
pub(super) struct Connection {
    raw: SqliteConnection,
    /// Interrupts the running statement, once.
    cut: Arc<AtomicBool>,
    /// A statement was sent whose end was not seen.
    busy: bool,
    /// `BEGIN` was sent, and no successful `COMMIT` or `ROLLBACK` since.
    in_transaction: bool,
    /// Tables were changed, so cached statements may have the wrong columns.
    schema_changed: bool,
    /// It must be reset before somebody else gets it.
    dirty: bool,
    /// Its thread is gone.
    broken: bool,
    /// The schema it knows, see `Pool`.
    pub(super) generation: u64,
}

/// What a statement gave.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) changed: u64,
    pub(super) rows: Vec<Row>,
}

/// A statement that may be sent.
pub(super) struct Checked {
    text: Text,
    arguments: SqliteArguments,
    parameters: usize,
    several: bool,
}

/// The statement's text, shared with the driver's thread without a copy.
#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<String>),
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }

    /// S-01: the only place that vouches for a text. It came in as a [`Statement`], whose values travel apart.
    fn for_driver(&self) -> SqlStr {
        match self {
            Self::Static(text) => text.into_sql_str(),
            Self::Shared(text) => AssertSqlSafe(Arc::clone(text)).into_sql_str(),
        }
    }
}

impl Checked {
    /// Checks text and values against each other.
    pub(super) fn new(statement: Statement, in_transaction: bool, rows: bool) -> Result<Self> {
        check::refuse_transaction_control(statement.operation(), statement.text(), in_transaction)?;
        let scan = check::scan(statement.text())?;
        check::refuse_later_transaction_control(statement.text(), &scan.later, in_transaction)?;
        let (text, values) = statement.into_parts();
        let several = !scan.later.is_empty();
        if several && rows {
            let why = "a query is one statement; execute takes several";
            return Err(Error::invalid_input(why));
        }
        if several && !values.is_empty() {
            let why = "values are for one statement; execute takes several without";
            return Err(Error::invalid_input(why));
        }
        if scan.parameters != values.len() {
            return Err(Error::invalid_input(format!(
                "the statement has {} parameters, {} values were bound",
                scan.parameters,
                values.len()
            )));
        }
        let text = match text {
            Cow::Borrowed(text) => Text::Static(text),
            Cow::Owned(text) => Text::Shared(Arc::new(text)),
        };
        Ok(Self {
            text,
            parameters: values.len(),
            arguments: values::bind(values)?,
            several,
        })
    }

    /// A statement of this crate's own, for the transaction it begins or ends.
    pub(super) fn control(text: &'static str) -> Self {
        Self {
            text: Text::Static(text),
            arguments: SqliteArguments::default(),
            parameters: 0,
            several: false,
        }
    }

    pub(super) fn text(&self) -> SharedText {
        SharedText(self.text.clone())
    }
}

/// The text of a statement that is already on its way.
pub(super) struct SharedText(Text);

impl SharedText {
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Connection {
    pub(super) async fn open(options: &SqliteConnectOptions) -> sqlx::Result<Self> {
        let mut raw = options.connect().await?;
        let cut = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&cut);
        raw.lock_handle().await?.set_progress_handler(STEPS, move || {
            !(seen.load(Ordering::Relaxed) && seen.swap(false, Ordering::Relaxed))
        });
        Ok(Self {
            raw,
            cut,
            busy: false,
            in_transaction: false,
            schema_changed: false,
            dirty: false,
            broken: false,
            generation: 0,
        })
    }

    /// Runs a statement to its end. Dropping the future leaves the connection busy, see [`Connection::release`].
    pub(super) async fn run(&mut self, statement: Checked, operation: &str, rows: bool) -> Result<Outcome> {
        let Checked {
            text,
            arguments,
            parameters,
            several,
        } = statement;
        let schema = check::changes_schema(operation);
        // Hidden in a text of several statements may be anything.
        self.schema_changed |= schema || several;
        self.dirty |= self.schema_changed;
        self.busy = true;
        let query = sqlx::query_with(text.for_driver(), arguments).persistent(!self.schema_changed);
        let (mut outcome, mut columns, mut finished) = (Outcome::default(), None, false);
        let mut undecodable = None;
        let mut steps = self.raw.fetch_many(query);
        let failed = loop {
            match steps.try_next().await {
                Ok(Some(Either::Left(done))) => {
                    outcome.changed += done.rows_affected();
                    columns = None;
                    finished = true;
                }
                Ok(Some(Either::Right(row))) => {
                    finished = false;
                    if rows && undecodable.is_none() {
                        let columns = columns.get_or_insert_with(|| values::columns(&row));
                        match values::row(&row, columns) {
                            Ok(row) => outcome.rows.push(row),
                            // The rest is still taken, so that the connection can be used on.
                            Err(error) => undecodable = Some(error),
                        }
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        drop(steps);
        let failed = match failed {
            // The driver's stream just stops when its thread has panicked.
            None if !finished => Some(sqlx::Error::WorkerCrashed),
            None if several => match timeout(PING, self.raw.ping()).await {
                Ok(answer) => answer.err(),
                Err(_) => Some(sqlx::Error::WorkerCrashed),
            },
            other => other,
        };
        self.busy = false;
        if let Some(error) = failed {
            self.broken = matches!(error, sqlx::Error::WorkerCrashed);
            return Err(classify(error, parameters > 0));
        }
        if !check::changes_rows(operation, text.as_str()) {
            outcome.changed = 0;
        }
        undecodable.map_or(Ok(outcome), Err)
    }

    /// Begins a transaction. When the future is dropped, [`Connection::release`] ends it.
    pub(super) async fn begin(&mut self, text: &'static str) -> Result<()> {
        self.in_transaction = true;
        self.run(Checked::control(text), "BEGIN", false).await.map(drop)
    }

    /// Commits or rolls back.
    pub(super) async fn end(&mut self, text: &'static str) -> Result<()> {
        self.run(Checked::control(text), "COMMIT", false).await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Whether the transaction is still there. After some errors SQLite has rolled it back by itself, and what follows
    /// would be committed statement by statement.
    pub(super) async fn still_in_transaction(&mut self) -> bool {
        // Either way there is one now.
        self.in_transaction = true;
        self.run(Checked::control("BEGIN"), "BEGIN", false).await.is_err() && !self.broken
    }

    /// Whether a statement's end was not seen.
    pub(super) fn is_cut_off(&self) -> bool {
        self.busy || self.broken
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn is_ready(&self, generation: u64) -> bool {
        !self.dirty && self.generation == generation
    }

    /// Stops the running statement.
    pub(super) fn interrupt(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Called when a lease ends, wherever it was: stops a running statement, has a left transaction rolled back. Only
    /// sends a message to the connection's thread; [`Connection::reset`] waits for the effect. Returns whether tables
    /// were changed.
    pub(super) fn release(&mut self) -> bool {
        if self.busy {
            self.interrupt();
        }
        if self.busy || self.in_transaction {
            self.dirty = true;
            // One poll hands the statement over, so that the locks are given up without anybody waiting for it. A
            // single statement: of several, the thread runs no more once it sees that nobody listens.
            let _ = self.raw.execute("ROLLBACK").now_or_never();
        }
        self.schema_changed
    }

    /// Makes the connection as good as new. Dropping the future leaves it dirty.
    pub(super) async fn reset(&mut self, generation: u64) -> Result<()> {
        self.dirty = true;
        self.try_reset().await.map_err(|error| {
            self.broken = true;
            classify(error, false)
        })?;
        (self.busy, self.in_transaction, self.schema_changed, self.dirty) = (false, false, false, false);
        self.generation = generation;
        Ok(())
    }

    async fn try_reset(&mut self) -> sqlx::Result<()> {
        // Answered when everything sent before has ended.
        self.raw.ping().await?;
        self.cut.store(false, Ordering::Relaxed);
        if let Err(error @ sqlx::Error::WorkerCrashed) = self.raw.execute(RESET).await {
            return Err(error);
        }
        self.raw.clear_cached_statements().await?;
        // Makes SQLite read the schema again if another connection has changed it.
        self.raw
            .execute("SELECT 1 FROM sqlite_schema LIMIT 1")
            .await
            .map(drop)
    }

    /// Closes it and waits for that.
    pub(super) async fn close(self) {
        if let Err(error) = self.raw.close().await {
            tracing::debug!(%error, "closing an SQLite connection");
        }
    }
}

/// The error of a transaction that cannot go on.
pub(super) fn transaction_lost() -> Error {
    Error::permanent("the transaction was rolled back after an earlier failure")
        .with_code(Code::FailedPrecondition)
}
