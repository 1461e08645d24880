//! The embedded database against the port's contract.

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
async fn c_11_s_01_faults_have_a_kind_and_a_code_and_show_no_value() {
    let db = memory().await;
    let setup = "CREATE TABLE strict_t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n < 10)) STRICT;
        CREATE TABLE child (t INTEGER REFERENCES t (id));
        CREATE TRIGGER no BEFORE DELETE ON child BEGIN SELECT RAISE(ABORT, 'never'); END;
        INSERT INTO t (v) VALUES ('canary'); INSERT INTO child VALUES (1);";
    db.execute(sql(setup)).await.unwrap();
    use Kind::{InvalidInput, Permanent};
    let canary = "canary";
    let constraint = Some(Code::FailedPrecondition);
    for (statement, kind, code) in [
        (insert(canary), Permanent, Some(Code::AlreadyExists)),
        (
            sql("INSERT INTO t (id) VALUES ($1)").bind(1),
            Permanent,
            Some(Code::AlreadyExists),
        ),
        (
            sql("INSERT INTO strict_t (n) VALUES ($1)").bind(canary),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO strict_t (n) VALUES ($1)").bind(None::<i64>),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO strict_t (n) VALUES ($1)").bind(77),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO child VALUES ($1)").bind(77),
            InvalidInput,
            constraint,
        ),
        (
            sql("DELETE FROM child WHERE $1 = $1").bind(canary),
            InvalidInput,
            constraint,
        ),
        (
            sql("INSERT INTO t (id) VALUES ($1)").bind(canary),
            InvalidInput,
            constraint,
        ),
        (sql("SELEC 1"), Permanent, None),
        (
            sql("SELECT * FROM nowhere WHERE a = $1").bind(canary),
            Permanent,
            None,
        ),
        (sql("SELECT json_extract('{}', $1)").bind(canary), Permanent, None),
        (sql("SELECT $1").bind(canary).bind(canary), InvalidInput, None),
        (sql("SELECT $1, $2").bind(canary), InvalidInput, None),
        (sql("SELECT ?1").bind(canary), InvalidInput, None),
        (sql("BEGIN"), InvalidInput, None),
        (sql("SELECT 1; \0"), InvalidInput, None),
    ] {
        let text = statement.text().to_owned();
        let error = db.query(statement).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, code), "{text}: {error}");
        assert_eq!(error.operation(), Some("database.query"), "{text}");
        assert!(error.context().any(|(key, _)| key == "statement"), "{error}");
        let shown = format!("{error} {error:?} {}", error.chain());
        assert!(!shown.contains(canary) && !shown.contains("77"), "{shown}");
    }
    let error = db.query(sql("SELECT * FROM nowhere")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "database.query: no such table: nowhere (sqlite_code=1, statement=SELECT)"
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
        let error = tx.execute(insert("x")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Permanent, Some(Code::FailedPrecondition)),
            "{error}"
        );
        assert_eq!(count(&*tx).await, i64::from(end));
        match end {
            0 => tx.commit().await.unwrap(),
            1 => tx.rollback().await.unwrap(),
            _ => drop(tx),
        }
        db.execute(insert(&end.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_runs_nothing_more() {
    let db = memory().await;
    db.execute(insert("a")).await.unwrap();
    let tx = db.begin(TxOptions::default()).await.unwrap();
    tx.execute(insert("b")).await.unwrap();
    // An ordinary failure leaves the transaction open.
    assert!(tx.execute(insert("a")).await.is_err());
    tx.execute(insert("c")).await.unwrap();
    let ends = sql("INSERT OR ROLLBACK INTO t (v) VALUES ($1)").bind("a");
    assert_eq!(
        tx.execute(ends).await.unwrap_err().code(),
        Some(Code::AlreadyExists)
    );
    let error = tx.execute(insert("d")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Permanent, Some(Code::FailedPrecondition))
    );
    assert!(tx.commit().await.is_err());
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn db_3_the_statement_timeout_interrupts_and_the_connection_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        SqliteOptions::memory(),
        SqliteOptions {
            max_connections: 1,
            ..file(&folder)
        },
    ] {
        let db = open(SqliteOptions {
            statement_timeout: SECOND / 10,
            ..options
        })
        .await;
        db.execute(insert("a")).await.unwrap();
        let error = db.query(sql(ENDLESS)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Timeout))
        );
        assert_eq!(timeout(SECOND, count(&db)).await.unwrap(), 1);

        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(insert("b")).await.unwrap();
        assert_eq!(
            tx.query(sql(ENDLESS)).await.unwrap_err().code(),
            Some(Code::Timeout)
        );
        assert_eq!(
            tx.execute(insert("c")).await.unwrap_err().code(),
            Some(Code::FailedPrecondition)
        );
        assert!(tx.commit().await.is_err());
        assert_eq!(timeout(SECOND, count(&db)).await.unwrap(), 1);
    }
}

/// Runs `work`, dropping it after about `limit`; finer than tokio's timers, which tick in milliseconds.
async fn cut_after<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    let started = Instant::now();
    tokio::select! {
        biased;
        done = work => Some(done),
        () = async { while started.elapsed() < limit { yield_now().await } } => None,
    }
}

#[tokio::test]
async fn f_db_03_a_future_dropped_anywhere_leaves_the_next_borrower_a_clean_connection() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteOptions {
        max_connections: 1,
        ..file(&folder)
    };
    for (options, runs, longest) in [(SqliteOptions::memory(), 1500, 150), (file, 500, 600)] {
        let db = open(options).await;
        let (mut cut, mut sure) = (0, 0);
        for run in 0..runs {
            let work = async {
                let tx = db
                    .begin(TxOptions {
                        read_only: run % 7 == 0,
                        ..TxOptions::default()
                    })
                    .await?;
                let seen = tx.query(sql("SELECT 'mine' AS who")).await?;
                assert_eq!(seen[0].get::<String>("who")?, "mine");
                if run % 7 != 0 {
                    tx.execute(sql("INSERT INTO t (v) VALUES ($1)").bind(format!("{run}a")))
                        .await?;
                    tx.execute(sql("INSERT INTO t (v) VALUES ($1)").bind(format!("{run}b")))
                        .await?;
                }
                tx.commit().await
            };
            match cut_after(Duration::from_micros(run % longest), work).await {
                Some(result) => {
                    result.unwrap();
                    sure += i64::from(run % 7 != 0);
                }
                None => cut += 1,
            }
            let mut lease = db.pool.acquire().await.unwrap();
            assert!(
                !lease.connection().unwrap().still_in_transaction().await,
                "run {run}"
            );
            drop(lease);
            let rows = db.query(sql("SELECT 'next' AS who")).await.unwrap();
            assert_eq!(rows[0].get::<String>("who").unwrap(), "next");
        }
        // All or nothing of each transaction; what was answered Ok is there.
        let rows = count(&db).await;
        assert!(rows % 2 == 0 && rows >= sure * 2, "{rows} {sure}");
        assert!(
            cut > runs / 20 && cut < runs,
            "{cut} of {runs} were cut: the sweep misses its aim"
        );
    }
}

#[tokio::test]
async fn f_db_06_ml_db_6_an_exhausted_pool_fails_in_time_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(SqliteOptions {
        max_connections: 2,
        acquire_timeout: SECOND / 5,
        ..file(&folder)
    })
    .await;
    let held = [
        db.begin(TxOptions {
            read_only: true,
            ..TxOptions::default()
        })
        .await
        .unwrap(),
        db.begin(TxOptions {
            read_only: true,
            ..TxOptions::default()
        })
        .await
        .unwrap(),
    ];
    let mut waiting = JoinSet::new();
    for i in 0..100 {
        let db = db.clone();
        waiting.spawn(async move {
            let query = db.query(sql("SELECT 1"));
            if i % 2 == 0 {
                timeout(SECOND / 20, query).await.ok()
            } else {
                Some(query.await)
            }
        });
    }
    let started = Instant::now();
    let answers = waiting.join_all().await;
    assert!(started.elapsed() < SECOND);
    let errors: Vec<Error> = answers
        .into_iter()
        .flatten()
        .map(|answer| answer.unwrap_err())
        .collect();
    assert_eq!(errors.len(), 50);
    for error in errors {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Exhausted))
        );
        let shown = error.to_string();
        assert!(
            shown.contains("200ms") && shown.contains("max_connections=2") && shown.contains("in_use=2"),
            "{shown}"
        );
    }
    drop(held);
    let both = [db.pool.acquire().await.unwrap(), db.pool.acquire().await.unwrap()];
    drop(both);
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn a_second_writer_waits_then_conflicts() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(SqliteOptions {
        busy_timeout: SECOND / 20,
        ..file(&folder)
    })
    .await;
    let writer = db.begin(TxOptions::default()).await.unwrap();
    for error in [
        db.begin(TxOptions::default()).await.map(drop).unwrap_err(),
        db.execute(insert("x")).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Conflict)),
            "{error}"
        );
        assert!(!error.may_have_applied());
    }
    assert_eq!(count(&db).await, 0, "readers are not held up");
    writer.rollback().await.unwrap();
    db.execute(insert("x")).await.unwrap();
}

#[tokio::test]
async fn f_db_04_changed_tables_do_not_break_cached_statements() {
    let folder = tempfile::tempdir().unwrap();
    for db in [memory().await, open(file(&folder)).await] {
        let all = || db.query(sql("SELECT * FROM t"));
        db.execute(insert("a")).await.unwrap();
        let (one, two) = (db.pool.acquire().await.unwrap(), db.clone());
        drop(one);
        futures::future::try_join_all((0..8).map(|_| two.query(sql("SELECT * FROM t"))))
            .await
            .unwrap();
        db.execute(sql("ALTER TABLE t ADD COLUMN w TEXT")).await.unwrap();
        for rows in futures::future::try_join_all((0..8).map(|_| all()))
            .await
            .unwrap()
        {
            assert_eq!(rows[0].columns().collect::<Vec<_>>(), ["id", "v", "w"]);
        }
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.query(sql("SELECT * FROM t")).await.unwrap();
        tx.execute(sql("ALTER TABLE t DROP COLUMN w")).await.unwrap();
        assert_eq!(
            tx.query(sql("SELECT * FROM t")).await.unwrap()[0].values().len(),
            2
        );
        tx.rollback().await.unwrap();
        assert_eq!(all().await.unwrap()[0].values().len(), 3);
    }
}

#[tokio::test]
async fn f_db_04_another_processs_change_costs_one_call_per_connection_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(SqliteOptions {
        max_connections: 1,
        ..file(&folder)
    })
    .await;
    db.execute(insert("a")).await.unwrap();
    db.query(sql("SELECT * FROM t")).await.unwrap();
    let other = SqliteDatabase::open(file(&folder)).await.unwrap();
    other
        .execute(sql("ALTER TABLE t ADD COLUMN w TEXT"))
        .await
        .unwrap();
    if let Err(error) = db.query(sql("SELECT * FROM t")).await {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Unavailable)),
            "{error}"
        );
    }
    assert_eq!(
        db.query(sql("SELECT * FROM t")).await.unwrap()[0].values().len(),
        3
    );
}

#[tokio::test]
async fn several_statements_hide_no_transaction() {
    let db = memory().await;
    db.execute(sql("INSERT INTO t (v) VALUES ('a'); BEGIN"))
        .await
        .unwrap();
    let mut lease = db.pool.acquire().await.unwrap();
    assert!(!lease.connection().unwrap().still_in_transaction().await);
}

#[tokio::test]
async fn db_9_close_waits_and_then_everything_is_closed() {
    let db = memory().await;
    let tx = db.begin(TxOptions::default()).await.unwrap();
    tx.execute(insert("a")).await.unwrap();
    let closing = async {
        db.close().await.unwrap();
    };
    let finishing = async {
        yield_now().await;
        tx.execute(insert("b")).await.unwrap();
        tx.commit().await.unwrap();
    };
    tokio::join!(closing, finishing);
    db.close().await.unwrap();
    for error in [
        db.execute(insert("c")).await.map(drop).unwrap_err(),
        db.query(sql("SELECT 1")).await.map(drop).unwrap_err(),
        db.begin(TxOptions::default()).await.map(drop).unwrap_err(),
        db.ping().await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Permanent, Some(Code::Closed)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn db_9_close_is_bounded() {
    let db = open(SqliteOptions {
        statement_timeout: SECOND / 10,
        ..SqliteOptions::memory()
    })
    .await;
    let tx = db.begin(TxOptions::default()).await.unwrap();
    let error = timeout(SECOND, db.close()).await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Timeout))
    );
    drop(tx);
    assert_eq!(db.ping().await.unwrap_err().code(), Some(Code::Closed));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_says_which_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("text"),
        "this is no database, and it is longer than a header. ".repeat(50),
    )
    .unwrap();
    for (path, kind, why) in [
        (
            at("missing/t.db"),
            Kind::InvalidInput,
            "its folder does not exist",
        ),
        (folder.path().to_owned(), Kind::InvalidInput, "it is a folder"),
        (at("text"), Kind::Permanent, "file is not a database"),
    ] {
        let error = SqliteDatabase::open(SqliteOptions::file(&path))
            .await
            .unwrap_err();
        let shown = error.to_string();
        assert_eq!(error.kind(), kind, "{shown}");
        assert!(
            shown.contains(why) && shown.contains(path.to_str().unwrap()),
            "{shown}"
        );
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
