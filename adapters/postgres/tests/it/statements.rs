//! Statements under changed tables, conflicts and failures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cqi_core::{
    Code, Kind,
    database::{Database, DatabaseExt, Executor, Isolation, TxOptions, sql},
    policy::Retry,
};
use cqi_postgres::PostgresOptions;
use tokio::task::JoinSet;

use crate::support::{connect, connect_one, one, pool_is_clean, run, shared};

/// F-DB-04: tables are changed under prepared statements; outside of transactions no call fails, inside a retry helps.
#[test]
fn f_db_04_changed_tables_heal_by_themselves() {
    let Some(options) = shared() else { return };
    run(async {
        let (db, other) = (connect(&options).await, connect(&options).await);
        db.execute(sql("CREATE TABLE t (id BIGINT PRIMARY KEY, v INTEGER)"))
            .await
            .unwrap();
        db.execute(sql("INSERT INTO t VALUES (1, 1)")).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (calls, conflicts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut readers = JoinSet::new();
        for _ in 0..4 {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            let (calls, conflicts) = (Arc::clone(&calls), Arc::clone(&conflicts));
            readers.spawn(async move {
                while !stop.load(SeqCst) {
                    let rows = db
                        .query(sql("SELECT * FROM t WHERE id = $1").bind(1))
                        .await
                        .unwrap();
                    assert_eq!(rows.len(), 1);
                    let tx = db.begin(TxOptions::default()).await.unwrap();
                    match tx.query(sql("SELECT * FROM t WHERE id = $1").bind(1)).await {
                        Ok(_) => tx.commit().await.unwrap(),
                        Err(error) => {
                            assert_eq!(
                                (error.kind(), error.code()),
                                (Kind::Temporary, Some(Code::Conflict)),
                                "{error}"
                            );
                            conflicts.fetch_add(1, SeqCst);
                        }
                    }
                    calls.fetch_add(1, SeqCst);
                }
            });
        }
        let changes = 20;
        for round in 0..changes {
            let seen = calls.load(SeqCst);
            while calls.load(SeqCst) < seen + 20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let change = match round % 4 {
                0 => "ALTER TABLE t ALTER COLUMN v TYPE BIGINT",
                1 => "ALTER TABLE t ADD COLUMN w TEXT",
                2 => "ALTER TABLE t DROP COLUMN w",
                _ => "ALTER TABLE t ALTER COLUMN v TYPE INTEGER",
            };
            other.execute(sql(change)).await.unwrap();
        }
        stop.store(true, SeqCst);
        drop(readers.join_all().await);
        let (calls, conflicts) = (calls.load(SeqCst), conflicts.load(SeqCst));
        println!(
            "F-DB-04: {changes} changes under {calls} rounds: {conflicts} transactions had to be repeated"
        );
        // At most one per connection and change.
        assert!(conflicts <= changes * 4, "{conflicts} conflicts");
        pool_is_clean(&db, 4).await;
    });
}

/// F-DB-09: deadlocks and serialization failures are repeated as a whole, and count once.
#[test]
fn f_db_09_crossing_updates_all_count_once() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&PostgresOptions {
            max_connections: 8,
            ..options
        })
        .await;
        db.execute(sql("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)"))
            .await
            .unwrap();
        db.execute(sql("INSERT INTO t VALUES (1, 0), (2, 0)"))
            .await
            .unwrap();
        let attempts = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for task in 0..8_i64 {
            let (db, attempts) = (db.clone(), Arc::clone(&attempts));
            tasks.spawn(async move {
                let (first, second) = if task % 2 == 0 { (1_i64, 2_i64) } else { (2, 1) };
                let isolation = if task < 4 {
                    Isolation::Default
                } else {
                    Isolation::Serializable
                };
                let retry = Retry {
                    attempts: 100,
                    initial: Duration::from_millis(5),
                    ..Retry::default()
                };
                for _ in 0..10 {
                    let attempts = Arc::clone(&attempts);
                    let options = TxOptions {
                        isolation,
                        read_only: false,
                    };
                    db.with_transaction_opts(options, retry.clone(), move |tx| {
                        attempts.fetch_add(1, SeqCst);
                        Box::pin(async move {
                            tx.execute(sql("UPDATE t SET n = n + 1 WHERE id = $1").bind(first))
                                .await?;
                            tokio::task::yield_now().await;
                            tx.execute(sql("UPDATE t SET n = n + 1 WHERE id = $1").bind(second))
                                .await
                        })
                    })
                    .await
                    .unwrap();
                }
            });
        }
        drop(tasks.join_all().await);
        assert_eq!(
            one::<i64>(&db, "SELECT CAST(min(n) + max(n) AS BIGINT) FROM t").await,
            160
        );
        println!("F-DB-09: 80 transactions took {} attempts", attempts.load(SeqCst));
    });
}

/// PostgreSQL answers `COMMIT` after a failure with a rollback; that must not look like success.
#[test]
fn a_failed_transaction_does_not_commit_in_silence() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        db.execute(sql("CREATE TABLE t (id BIGINT PRIMARY KEY)"))
            .await
            .unwrap();
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(sql("INSERT INTO t VALUES (1)")).await.unwrap();
        tx.execute(sql("INSERT INTO t VALUES (1)")).await.unwrap_err();
        let error = tx.commit().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Permanent, Some(Code::FailedPrecondition))
        );
        assert!(!error.may_have_applied());
        // What was refused on our side is a failure too; what was taken back to a savepoint is mended.
        let tx = db.begin(TxOptions::default()).await.unwrap();
        let does_not_fit = || sql("INSERT INTO t VALUES ($1)").bind("x");
        assert!(tx.execute(does_not_fit()).await.unwrap_err().is_invalid_input());
        let error = tx.commit().await.unwrap_err();
        assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(sql("INSERT INTO t VALUES ($1)").bind(2))
            .await
            .unwrap();
        tx.execute(sql("SAVEPOINT s")).await.unwrap();
        for fails in [sql("INSERT INTO t VALUES (2)"), does_not_fit()] {
            tx.execute(fails).await.unwrap_err();
            tx.execute(sql("ROLLBACK TO SAVEPOINT s")).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(one::<i64>(&db, "SELECT id FROM t").await, 2);
        // A constraint that is looked at when committing.
        db.execute(sql(
            "CREATE TABLE d (id BIGINT REFERENCES t DEFERRABLE INITIALLY DEFERRED)",
        ))
        .await
        .unwrap();
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(sql("INSERT INTO d VALUES (9)")).await.unwrap();
        let error = tx.commit().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::InvalidInput, Some(Code::FailedPrecondition))
        );
        assert!(!error.may_have_applied());
        pool_is_clean(&db, 4).await;
    });
}

#[test]
fn several_statements_go_in_one_text_and_leave_no_transaction() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        db.execute(sql(
            "CREATE TABLE a (x TEXT); -- ;\nCREATE TABLE b (x TEXT); INSERT INTO a VALUES (';'), ('$$')",
        ))
        .await
        .unwrap();
        assert_eq!(
            one::<i64>(&db, "SELECT count(*) FROM a WHERE x <> 'a;b'").await,
            2
        );
        db.execute(sql("INSERT INTO b VALUES ('x'); INSERT INTO nowhere VALUES (1)"))
            .await
            .unwrap_err();
        assert_eq!(one::<i64>(&db, "SELECT count(*) FROM b").await, 0);
        for hidden in [
            "SELECT 1; BEGIN",
            "SELECT 1; COMMIT; SELECT 2",
            "BEGIN; SELECT 1",
            "ROLLBACK",
            "",
        ] {
            assert!(
                db.execute(sql(hidden)).await.unwrap_err().is_invalid_input(),
                "{hidden}"
            );
        }
        assert!(
            db.query(sql("SELECT 1; SELECT 2"))
                .await
                .unwrap_err()
                .is_invalid_input()
        );
        assert!(
            db.execute(sql("SELECT $1; SELECT 2").bind(1))
                .await
                .unwrap_err()
                .is_invalid_input()
        );
        pool_is_clean(&db, 1).await;
    });
}

/// A procedure may commit and fail after that: then nobody may take it for undone, and it is not repeated.
#[test]
fn a_procedure_that_commits_and_fails_may_have_taken_effect() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        db.execute(sql("CREATE TABLE t (id BIGINT)")).await.unwrap();
        let body = "BEGIN INSERT INTO t VALUES (1); COMMIT; RAISE 'late' USING ERRCODE = '40P01'; END";
        let procedure = format!("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ {body} $$");
        db.execute(sql(procedure)).await.unwrap();
        for text in ["CALL p()".to_owned(), format!("DO $$ {body} $$")] {
            let error = db.execute(sql(text)).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.may_have_applied()),
                (Kind::Temporary, true),
                "{error}"
            );
        }
        assert_eq!(one::<i64>(&db, "SELECT count(*) FROM t").await, 2);
    });
}

/// What is deferred to the commit may tell of values that were bound before.
#[test]
fn s_01_an_error_of_a_commit_shows_no_values() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        let make = "CREATE TABLE t (name TEXT);
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no %', NEW.name; END $$;
            CREATE CONSTRAINT TRIGGER c AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f()";
        db.execute(sql(make)).await.unwrap();
        let tx = db.begin(TxOptions::default()).await.unwrap();
        let insert = sql("INSERT INTO t VALUES ($1)").bind("canary");
        tx.execute(insert).await.unwrap();
        let error = tx.commit().await.unwrap_err();
        assert!(
            !format!("{} {error:?}", error.chain()).contains("canary"),
            "{error}"
        );
    });
}

#[test]
fn a_function_written_as_statements_is_one() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        let function =
            "CREATE FUNCTION f() RETURNS BIGINT BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END";
        db.execute(sql(function)).await.unwrap();
        assert_eq!(one::<i64>(&db, "SELECT f()").await, 2);
    });
}

/// The driver cannot prepare a statement with such a column; its connection is as good as before.
#[test]
fn a_type_the_driver_does_not_know_is_told_with_the_remedy() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        let before: i64 = one(&db, "SELECT pg_backend_pid()").await;
        for _ in 0..2 {
            let error = db
                .query(sql("SELECT '{[1,2)}'::int4multirange"))
                .await
                .unwrap_err();
            assert_eq!(error.code(), Some(Code::Undecodable), "{error}");
            assert!(error.to_string().contains("cast to text"), "{error}");
        }
        let text: String = one(&db, "SELECT '{[1,2)}'::int4multirange::text").await;
        assert_eq!(text, "{[1,2)}");
        assert_eq!(one::<i64>(&db, "SELECT pg_backend_pid()").await, before);
    });
}
