//! SQLite through the database port beside bare sqlx: in memory and in a file, with the same settings.

mod sqlx;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use cqi_core::database::{Database, SqliteDatabase, SqliteOptions, sql};
use tempfile::TempDir;

use self::sqlx::Sqlx;
use super::{Case, Db, FIRST, Opened, ROWS, Run, Sql, port::Port};
use crate::{
    measure::{SIZES, payload},
    report::{Report, Target},
};

/// Connections to a file; in memory there is one.
const CONNECTIONS: u32 = 4;

const SQL: Sql = Sql {
    create: &[
        "CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL)",
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    ],
    fill: "INSERT INTO item (body) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < $2) SELECT $1 FROM c",
    select: "SELECT id, n, body FROM item WHERE id = $1",
    insert: "INSERT INTO item (body) VALUES ($1) RETURNING id",
    read: "SELECT n FROM item WHERE id = $1",
    update: "UPDATE item SET n = n + 1 WHERE id = $1",
    outbox: "INSERT INTO outbox (body) VALUES ($1)",
    counts: "SELECT count(*), sum(n), (SELECT count(*) FROM outbox) FROM item",
};

const PEERS: [&str; 3] = ["cqi", "sqlx", "sqlx no-ping"];

/// A case, its name, and how many calls are made in memory and in a file.
const CASES: [(Case, &str, usize, usize); 3] = [
    (Case::Select, "select", 20_000, 20_000),
    (Case::Insert, "insert", 20_000, 1_000),
    (Case::Transaction, "tx", 5_000, 500),
];

/// A database in memory or a file, opened as each peer does it.
trait Open: Db + Sized {
    /// Opens the file, or an empty database in memory, with the tables and `ROWS` rows.
    fn open(file: Option<&Path>, ping: bool, body: Bytes) -> impl Future<Output = Self> + Send;
}

impl Open for Port {
    async fn open(file: Option<&Path>, _: bool, body: Bytes) -> Self {
        let options = match file {
            Some(path) => SqliteOptions {
                max_connections: CONNECTIONS,
                ..SqliteOptions::file(path)
            },
            None => SqliteOptions::memory(),
        };
        let db = SqliteDatabase::open(options).await.expect("a database");
        let db: Arc<dyn Database> = Arc::new(db);
        for table in SQL.create {
            db.execute(sql(*table)).await.expect("a new table");
        }
        let fill = sql(SQL.fill).bind(body).bind(ROWS);
        db.execute(fill).await.expect("rows");
        Self { db, sql: &SQL }
    }
}

/// Every case once for every peer.
pub(crate) async fn round(report: &mut Report) {
    for file in [false, true] {
        for size in SIZES {
            let folder = tempfile::tempdir().expect("a folder for the databases");
            let cqi = opened::<Port>(report, "cqi", &folder, file, size).await;
            let sqlx = opened::<Sqlx>(report, "sqlx", &folder, file, size).await;
            let no_ping = opened::<Sqlx>(report, "sqlx no-ping", &folder, file, size).await;
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
            if let Some(cqi) = cqi {
                cqi.verify().await;
            }
            for sqlx in [sqlx, no_ping].into_iter().flatten() {
                sqlx.verify().await;
            }
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

async fn opened<D: Open>(
    report: &Report,
    peer: &'static str,
    folder: &TempDir,
    file: bool,
    size: usize,
) -> Option<Arc<Opened<D>>> {
    if !report.has(peer) {
        return None;
    }
    let path = folder.path().join(format!("{peer}.db"));
    let file = file.then_some(&*path);
    let db = D::open(file, peer != "sqlx no-ping", payload(FIRST, size)).await;
    Some(Arc::new(Opened::new(db)))
}
