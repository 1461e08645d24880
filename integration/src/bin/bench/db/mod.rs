//! Databases through their port beside their bare clients, with the same settings: SQLite and PostgreSQL.

mod port;
mod postgres;
mod sqlite;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;

pub(crate) use self::{postgres::round as postgres, sqlite::round as sqlite};
use crate::{
    measure::{Clock, drive, number, payload, sequential},
    report::Report,
};

const ROWS: i64 = 5_000;
/// What the bodies of the first rows have as their number.
const FIRST: usize = 7;

/// The statements of one kind of database.
struct Sql {
    create: &'static [&'static str],
    fill: &'static str,
    select: &'static str,
    insert: &'static str,
    read: &'static str,
    update: &'static str,
    outbox: &'static str,
    counts: &'static str,
}

/// An open database.
trait Db: Send + Sync + 'static {
    /// Reads a row by its key; the body.
    fn select(&self, id: i64) -> impl Future<Output = Bytes> + Send;
    /// Adds a row; its id.
    fn insert(&self, body: Bytes) -> impl Future<Output = i64> + Send;
    /// Reads, changes and adds in one transaction.
    fn transaction(&self, id: i64, body: Bytes) -> impl Future<Output = ()> + Send;
    /// Rows, sum of `n`, and rows of the outbox.
    fn counts(&self) -> impl Future<Output = (i64, i64, i64)> + Send;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Select,
    Insert,
    Transaction,
}

/// How much was done to a database.
#[derive(Debug, Default)]
struct Done {
    inserted: AtomicUsize,
    changed: AtomicUsize,
}

/// An open database, and what was done to it.
struct Opened<D> {
    db: D,
    done: Arc<Done>,
}

/// One measurement.
struct Run<'a> {
    peer: &'static str,
    named: &'a str,
    case: Case,
    tasks: usize,
    total: usize,
    size: usize,
}

impl Run<'_> {
    async fn measure<D: Db>(&self, report: &mut Report, on: &Option<Arc<Opened<D>>>) {
        let Some(on) = on else { return };
        self.drive(on, self.total / 10).await;
        if self.tasks > 1 {
            let clock = Clock::start();
            self.drive(on, self.total).await;
            report.rate(self.named, self.peer, self.size, self.total, clock.stop());
            return;
        }
        let (took, mut nanos) = sequential(self.total, |i| on.call(self.case, i, self.size)).await;
        report.rate(self.named, self.peer, self.size, self.total, took);
        report.latency(self.named, self.peer, self.size, 99, &mut nanos);
    }

    async fn drive<D: Db>(&self, on: &Arc<Opened<D>>, total: usize) {
        let (on, case, size) = (Arc::clone(on), self.case, self.size);
        let work = move |i| {
            let on = Arc::clone(&on);
            async move { on.call(case, i, size).await }
        };
        drive(self.tasks, total, work).await;
    }
}

impl<D: Db> Opened<D> {
    fn new(db: D) -> Self {
        Self {
            db,
            done: Arc::default(),
        }
    }

    async fn call(&self, case: Case, i: usize, size: usize) {
        let id = i64::try_from(i).unwrap_or_default() % ROWS + 1;
        match case {
            Case::Select => assert_eq!(number(&self.db.select(id).await, size), FIRST),
            Case::Insert => {
                assert!(self.db.insert(payload(i, size)).await > ROWS);
                self.done.inserted.fetch_add(1, Relaxed);
            }
            Case::Transaction => {
                self.db.transaction(id, payload(i, size)).await;
                self.done.changed.fetch_add(1, Relaxed);
            }
        }
    }

    /// Checks that everything that was answered is there.
    async fn verify(&self) {
        let count = |of: &AtomicUsize| i64::try_from(of.load(Relaxed)).unwrap_or_default();
        let (inserted, changed) = (count(&self.done.inserted), count(&self.done.changed));
        assert_eq!(
            self.db.counts().await,
            (ROWS + inserted, changed, changed),
            "rows lost"
        );
    }
}
