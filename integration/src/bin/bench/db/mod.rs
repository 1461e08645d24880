//! SQLite through the database port beside bare sqlx: in memory and in a file, with the same settings.

mod cqi;
mod sqlx;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::Instant;

use self::{cqi::Cqi, sqlx::Sqlx};
use crate::{
    measure::{Clock, SIZES, drive, number, payload},
    report::{Report, Target},
};

const ROWS: i64 = 5_000;
/// What the bodies of the first rows have as their number.
const FIRST: usize = 7;
/// Connections to a file; in memory there is one.
const CONNECTIONS: u32 = 4;

const CREATE: [&str; 2] = [
    "CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL)",
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
];
const FILL: &str = "INSERT INTO item (body) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < $2) SELECT $1 FROM c";
const SELECT: &str = "SELECT id, n, body FROM item WHERE id = $1";
const INSERT: &str = "INSERT INTO item (body) VALUES ($1) RETURNING id";
const READ: &str = "SELECT n FROM item WHERE id = $1";
const UPDATE: &str = "UPDATE item SET n = n + 1 WHERE id = $1";
const OUTBOX: &str = "INSERT INTO outbox (body) VALUES ($1)";
const COUNTS: &str = "SELECT count(*), sum(n), (SELECT count(*) FROM outbox) FROM item";

const PEERS: [&str; 3] = ["cqi", "sqlx", "sqlx no-ping"];

/// A database that was opened as each peer does it.
trait Db: Send + Sync + Sized + 'static {
    /// Opens the file, or an empty database in memory, with the tables and `ROWS` rows.
    fn open(file: Option<&Path>, ping: bool, body: Bytes) -> impl Future<Output = Self> + Send;
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

/// A case, its name, and how many calls are made in memory and in a file.
const CASES: [(Case, &str, usize, usize); 3] = [
    (Case::Select, "select", 20_000, 20_000),
    (Case::Insert, "insert", 20_000, 1_000),
    (Case::Transaction, "tx", 5_000, 500),
];

/// An open database, and what it should hold.
struct Opened<D> {
    db: D,
    inserted: AtomicUsize,
    changed: AtomicUsize,
    _folder: TempDir,
}

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    for file in [false, true] {
        for size in SIZES {
            let cqi = opened::<Cqi>(report, "cqi", file, size).await;
            let sqlx = opened::<Sqlx>(report, "sqlx", file, size).await;
            let no_ping = opened::<Sqlx>(report, "sqlx no-ping", file, size).await;
            for (case, name, in_memory, in_file) in CASES {
                let total = report.count(if file { in_file } else { in_memory });
                for tasks in [1, 16] {
                    let named = format!("{} {name} x{tasks}", if file { "WAL file" } else { "memory" });
                    for peer in report.peers(&PEERS) {
                        let run = Run {
                            peer,
                            named: &named,
                            case,
                            tasks,
                            total,
                            size,
                        };
                        match peer {
                            "cqi" => run.measure(report, &cqi).await,
                            "sqlx" => run.measure(report, &sqlx).await,
                            _ => run.measure(report, &no_ping).await,
                        }
                    }
                    report.target(&named, size, "op/s", Target::AtLeast(1.0 / 1.1, "sqlx"));
                }
            }
            verify(&cqi).await;
            verify(&sqlx).await;
            verify(&no_ping).await;
        }
    }
    report.note(
        "file: WAL, synchronous=FULL, 4 connections; memory: 1 connection; transactions begin IMMEDIATE",
    );
    report.note(
        "sqlx: its pool as it is, which pings a connection before it lends it out; no-ping: with that off",
    );
    report.note("at most 1.10 times as slow is the same as at least 0.91 times the operations per second");
}

async fn opened<D: Db>(
    report: &Report,
    peer: &'static str,
    file: bool,
    size: usize,
) -> Option<Arc<Opened<D>>> {
    if !report.has(peer) {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder for the database");
    let path = folder.path().join("bench.db");
    Some(Arc::new(Opened {
        db: D::open(
            file.then_some(&*path),
            peer != "sqlx no-ping",
            payload(FIRST, size),
        )
        .await,
        inserted: AtomicUsize::new(0),
        changed: AtomicUsize::new(0),
        _folder: folder,
    }))
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
        let mut nanos = Vec::with_capacity(self.total);
        let clock = Clock::start();
        for i in 0..self.total {
            let started = Instant::now();
            on.call(self.case, i, self.size).await;
            nanos.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        report.rate(self.named, self.peer, self.size, self.total, clock.stop());
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
    async fn call(&self, case: Case, i: usize, size: usize) {
        let id = i64::try_from(i).unwrap_or_default() % ROWS + 1;
        match case {
            Case::Select => assert_eq!(number(&self.db.select(id).await, size), FIRST),
            Case::Insert => {
                assert!(self.db.insert(payload(i, size)).await > ROWS);
                self.inserted.fetch_add(1, Relaxed);
            }
            Case::Transaction => {
                self.db.transaction(id, payload(i, size)).await;
                self.changed.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Checks that everything that was answered is there.
async fn verify<D: Db>(on: &Option<Arc<Opened<D>>>) {
    let Some(on) = on else { return };
    let count = |of: &AtomicUsize| i64::try_from(of.load(Relaxed)).unwrap_or_default();
    let (inserted, changed) = (count(&on.inserted), count(&on.changed));
    assert_eq!(
        on.db.counts().await,
        (ROWS + inserted, changed, changed),
        "rows lost"
    );
}
