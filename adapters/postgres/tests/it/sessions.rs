//! What calls leave behind on a connection, and in the log.

use std::time::Duration;

use cqi_core::database::{Database, Executor, TxOptions, sql};
use cqi_postgres::PostgresOptions;
use cqi_testkit::recorder::Recorder;
use futures::FutureExt as _;

use crate::support::{connect, connect_one, one, run, shared};

/// What a statement sets for the session does not reach the next borrower.
#[test]
fn settings_of_a_session_end_with_the_loan() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        let setting = "SELECT current_setting('search_path')";
        let before: String = one(&db, setting).await;
        db.execute(sql("SET search_path = pg_catalog")).await.unwrap();
        assert_eq!(one::<String>(&db, setting).await, before);
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(sql("SET search_path = pg_catalog")).await.unwrap();
        assert_eq!(one::<String>(&*tx, setting).await, "pg_catalog");
        tx.commit().await.unwrap();
        assert_eq!(one::<String>(&db, setting).await, before);
        assert_eq!(
            one::<String>(&db, "SELECT current_setting('TimeZone')").await,
            "UTC"
        );
        assert_eq!(
            one::<String>(&db, "SELECT current_setting('statement_timeout')").await,
            "30s"
        );
        assert_eq!(
            one::<String>(&db, "SELECT current_setting('application_name')").await,
            "cqi"
        );
    });
}

/// More texts than are kept prepared, and one that comes back.
#[test]
fn prepared_statements_are_bounded() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        for number in 0..600_i64 {
            let rows = db
                .query(sql(format!("SELECT CAST($1 AS BIGINT) + {number}")).bind(1))
                .await
                .unwrap();
            assert_eq!(rows[0].at::<i64>(0).unwrap(), number + 1);
            assert_eq!(one::<i64>(&db, "SELECT CAST(7 AS BIGINT)").await, 7);
        }
        let kept: i64 = one(&db, "SELECT count(*) FROM pg_prepared_statements").await;
        assert!(kept <= 256, "{kept} statements are kept");
    });
}

/// The driver's connection, left in whatever state.
#[test]
fn a_raw_connection_comes_back_clean() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        let before: i64 = one(&db, "SELECT pg_backend_pid()").await;
        for round in 0..4 {
            let mut raw = db.acquire().await.unwrap();
            let connection = raw.get().unwrap();
            match round {
                0 => drop(sqlx::query("SELECT 1").fetch_one(&mut *connection).await.unwrap()),
                1 => drop(sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap()),
                2 => drop(
                    sqlx::raw_sql("BEGIN; SELEC")
                        .execute(&mut *connection)
                        .await
                        .unwrap_err(),
                ),
                _ => {
                    let error = sqlx::query("SELECT 'canary'::int")
                        .fetch_one(&mut *connection)
                        .await
                        .unwrap_err();
                    let error = raw.explain(error);
                    assert!(
                        error.is_invalid_input() && !error.to_string().contains("canary"),
                        "{error}"
                    );
                }
            }
            drop(raw);
            assert!(
                db.execute(sql("SAVEPOINT s")).await.is_err(),
                "round {round} left a transaction"
            );
        }
        assert_eq!(
            one::<i64>(&db, "SELECT pg_backend_pid()").await,
            before,
            "the connection was kept"
        );
    });
}

/// A COPY that is cut off leaves an answer unread, of which the driver does not know.
#[test]
fn a_raw_connection_with_a_copy_that_was_cut_off_gives_nobody_foreign_answers() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        db.execute(sql("CREATE TABLE t (id BIGINT)")).await.unwrap();
        for finishes in [false, true] {
            assert_eq!(one::<i64>(&db, "SELECT CAST(7 AS BIGINT)").await, 7);
            let mut raw = db.acquire().await.unwrap();
            let mut copy = raw.get().unwrap().copy_in_raw("COPY t FROM STDIN").await.unwrap();
            copy.send(&b"1\n"[..]).await.unwrap();
            if finishes {
                let cancelled = copy.finish().now_or_never();
                assert!(cancelled.is_none(), "the answer cannot be there yet");
            } else {
                drop(copy);
            }
            drop(raw);
            for _ in 0..3 {
                assert_eq!(one::<i64>(&db, "SELECT CAST(7 AS BIGINT)").await, 7);
                assert_eq!(one::<i64>(&db, "SELECT CAST(8 AS BIGINT)").await, 8);
            }
        }
    });
}

/// What the driver's own connection was told for the session ends with the loan too.
#[test]
fn settings_of_a_raw_connection_end_with_the_loan() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        let before: i64 = one(&db, "SELECT pg_backend_pid()").await;
        let mut raw = db.acquire().await.unwrap();
        let text = "SET statement_timeout = 0; SET search_path = pg_catalog; CREATE TEMP TABLE mine (id INT);
            SELECT pg_advisory_lock(7); LISTEN here";
        let connection = raw.get().unwrap();
        sqlx::raw_sql(text).execute(connection).await.unwrap();
        drop(raw);
        for (expected, setting) in [
            ("30s", "SELECT current_setting('statement_timeout')"),
            ("UTC", "SELECT current_setting('TimeZone')"),
            ("1s", "SELECT current_setting('client_connection_check_interval')"),
            ("\"$user\", public", "SELECT current_setting('search_path')"),
            (
                "none",
                "SELECT COALESCE(CAST(to_regclass('mine') AS TEXT), 'none')",
            ),
            (
                "0",
                "SELECT CAST(count(*) AS TEXT) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            ),
            ("0", "SELECT CAST(count(*) AS TEXT) FROM pg_listening_channels()"),
        ] {
            assert_eq!(one::<String>(&db, setting).await, expected, "{setting}");
        }
        assert_eq!(one::<i64>(&db, "SELECT pg_backend_pid()").await, before);
    });
}

#[test]
fn db_10_slow_statements_are_logged_without_values() {
    let Some(options) = shared() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let recorder = Recorder::default();
    let installed = recorder.install();
    runtime.block_on(async {
        let db = connect(&PostgresOptions {
            slow_threshold: Duration::from_secs(2),
            ..options
        })
        .await;
        one::<bool>(&db, "SELECT 'quick' = 'quick'").await;
        let slow = sql("SELECT pg_sleep(2), CAST($1 AS TEXT), 'canary'").bind("canary");
        db.query(slow).await.unwrap();
    });
    drop(installed);
    let log = format!("{:?}", recorder.logs());
    assert!(
        log.contains("slow statement") && log.contains("pg_sleep(?)") && log.contains("SELECT"),
        "{log}"
    );
    assert!(
        log.contains("elapsed_ms") && !log.contains("canary") && !log.contains("quick"),
        "{log}"
    );
}
