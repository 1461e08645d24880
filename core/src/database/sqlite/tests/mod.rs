//! The embedded database against the port's contract.

mod faults;
mod limits;

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, timeout},
};

use super::*;
use crate::{
    Code, Error, Kind,
    database::{Decimal, Value},
};

const SECOND: Duration = Duration::from_secs(1);
/// Runs for ever, in pieces small enough to be interrupted.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

async fn memory() -> SqliteDatabase {
    let db = SqliteDatabase::in_memory().await.unwrap();
    db.execute(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE)"))
        .await
        .unwrap();
    db
}

async fn open(options: SqliteOptions) -> SqliteDatabase {
    let db = SqliteDatabase::open(options).await.unwrap();
    db.execute(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE)"))
        .await
        .unwrap();
    db
}

fn file(folder: &tempfile::TempDir) -> SqliteOptions {
    SqliteOptions::file(folder.path().join("t.db"))
}

fn insert(v: &str) -> Statement {
    sql("INSERT INTO t (v) VALUES ($1)").bind(v)
}

async fn count(on: &dyn Executor) -> i64 {
    on.query(sql("SELECT count(*) FROM t")).await.unwrap()[0]
        .at(0)
        .unwrap()
}

#[tokio::test]
async fn db_1_execute_counts_rows_and_query_returns_them() {
    let db = memory().await;
    assert_eq!(
        db.execute(sql("INSERT INTO t (v) VALUES ($1), ($2)").bind("a").bind("b"))
            .await
            .unwrap(),
        2
    );
    // SQLite itself still says 2 after these.
    assert_eq!(
        db.execute(sql("CREATE TABLE other (id INTEGER)")).await.unwrap(),
        0
    );
    assert_eq!(db.execute(sql("SELECT 1")).await.unwrap(), 0);
    assert_eq!(
        db.execute(sql("WITH x AS (SELECT 1) SELECT * FROM x"))
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        db.execute(sql(
            "WITH x(i) AS (SELECT 1) UPDATE t SET v = v WHERE id IN (SELECT i FROM x)"
        ))
        .await
        .unwrap(),
        1
    );
    assert_eq!(db.execute(sql("DELETE FROM t WHERE id = 77")).await.unwrap(), 0);
    let rows = db
        .query(
            sql("SELECT id, v FROM t WHERE v = $2 OR v = $1 OR v = $2 ORDER BY id")
                .bind("a")
                .bind("b"),
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].columns().collect::<Vec<_>>(), ["id", "v"]);
    assert_eq!(
        (
            rows[1].get::<i64>("id").unwrap(),
            rows[1].get::<String>("v").unwrap()
        ),
        (2, "b".into())
    );
    let returned = db
        .query(sql(
            "INSERT INTO t (v) VALUES ('c') ON CONFLICT DO NOTHING RETURNING id",
        ))
        .await
        .unwrap();
    assert_eq!(returned[0].get::<i64>("id").unwrap(), 3);
}

#[tokio::test]
async fn every_value_comes_back_as_it_went_in() {
    async fn trip(db: &SqliteDatabase, value: impl super::super::ToValue) -> Row {
        db.query(sql("SELECT $1 AS v").bind(value))
            .await
            .unwrap()
            .remove(0)
    }
    let db = memory().await;
    assert_eq!(
        trip(&db, Value::Null).await.get::<Option<i64>>("v").unwrap(),
        None
    );
    assert!(trip(&db, true).await.get::<bool>("v").unwrap());
    for int in [i64::MIN, 0, i64::MAX] {
        assert_eq!(trip(&db, int).await.get::<i64>("v").unwrap(), int);
    }
    for float in [0.1, -1e300, f64::INFINITY, 3.0] {
        assert_eq!(trip(&db, float).await.get::<f64>("v").unwrap(), float);
    }
    let decimal: Decimal = "-12345678901234567890123456789.000000000000000001"
        .parse()
        .unwrap();
    assert_eq!(
        trip(&db, decimal.clone()).await.get::<Decimal>("v").unwrap(),
        decimal
    );
    for text in ["", "a'b\0c", "日本"] {
        assert_eq!(trip(&db, text).await.get::<String>("v").unwrap(), text);
    }
    for bytes in [&b""[..], b"\0\xff"] {
        assert_eq!(trip(&db, bytes.to_vec()).await.get::<Bytes>("v").unwrap(), bytes);
    }
    let uuid = uuid::Uuid::now_v7();
    assert_eq!(trip(&db, uuid).await.get::<uuid::Uuid>("v").unwrap(), uuid);
    let json = serde_json::json!({"a": [1, null, "x"]});
    assert_eq!(
        trip(&db, json.clone())
            .await
            .get::<serde_json::Value>("v")
            .unwrap(),
        json
    );
    let mut texts = Vec::new();
    for micros in [
        -62_135_596_800_000_000,
        -1,
        0,
        1,
        1_700_000_000_000_000,
        1_700_000_000_100_000,
    ] {
        let at = jiff::Timestamp::from_microsecond(micros).unwrap();
        let row = trip(&db, at).await;
        assert_eq!(row.get::<jiff::Timestamp>("v").unwrap(), at);
        texts.push(row.get::<String>("v").unwrap());
    }
    assert!(texts.is_sorted(), "{texts:?}");
    assert_eq!(texts[2], "1970-01-01T00:00:00.000000Z");
    for refused in [Value::Array(vec![]), Value::Float(f64::NAN)] {
        let error = db.query(sql("SELECT $1").bind(refused)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::InvalidInput, Some(Code::Unsupported))
        );
    }
    let error = db
        .query(sql("SELECT CAST(x'ff' AS TEXT) AS bad, 1"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Permanent, Some(Code::Undecodable))
    );
}

#[tokio::test]
async fn db_4_commit_keeps_rollback_and_drop_take_back() {
    let folder = tempfile::tempdir().unwrap();
    for db in [memory().await, open(file(&folder)).await] {
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(insert("kept")).await.unwrap();
        tx.commit().await.unwrap();
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(insert("taken back")).await.unwrap();
        tx.rollback().await.unwrap();
        // With a second connection at hand, the next statement does not run on the one that is dropped.
        let one = db.pool.acquire(false).await.unwrap();
        if db.pool.options.path.is_some() {
            drop(db.pool.acquire(false).await.unwrap());
        }
        drop(one);
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(insert("dropped")).await.unwrap();
        drop(tx);
        // The lock is free again although nobody has used that connection since.
        db.execute(insert("next")).await.unwrap();
        assert_eq!(count(&db).await, 2);
    }
}

#[tokio::test]
async fn ml_db_4_read_only_transactions_cannot_write_and_leave_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(SqliteOptions {
        max_connections: 1,
        ..file(&folder)
    })
    .await;
    for end in 0..3 {
        let tx = db
            .begin(TxOptions {
                read_only: true,
                ..TxOptions::default()
            })
            .await
            .unwrap();
        assert_eq!(count(&*tx).await, i64::from(end));
        if end > 0 {
            let error = tx.execute(insert("x")).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.code()),
                (Kind::Permanent, Some(Code::FailedPrecondition)),
                "{error}"
            );
        }
        match end {
            0 => tx.commit().await.unwrap(),
            1 => tx.rollback().await.unwrap(),
            _ => drop(tx),
        }
        db.execute(insert(&end.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn committed_rows_are_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(file(&folder)).await;
    db.execute(insert("kept")).await.unwrap();
    db.close().await.unwrap();
    let db = SqliteDatabase::open(file(&folder)).await.unwrap();
    assert_eq!(count(&db).await, 1);
    let pragma = |text: &'static str| db.query(sql(text));
    assert_eq!(
        pragma("PRAGMA journal_mode").await.unwrap()[0]
            .at::<String>(0)
            .unwrap(),
        "wal"
    );
    assert_eq!(
        pragma("PRAGMA synchronous").await.unwrap()[0]
            .at::<i64>(0)
            .unwrap(),
        2
    );
    assert_eq!(
        pragma("PRAGMA foreign_keys").await.unwrap()[0]
            .at::<i64>(0)
            .unwrap(),
        1
    );
}
