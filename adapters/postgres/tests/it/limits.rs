//! The bounds of the pool, of statements and of the server.

use std::time::Duration;

use cqi_core::{
    Code, Kind,
    database::{Database, Executor, TxOptions, sql},
};
use cqi_postgres::PostgresOptions;
use tokio::task::JoinSet;

use crate::support::{connect, one, pool_is_clean, run, shared, until};

/// F-DB-06: with every connection held, waiters fail at their time with the figures; waiters that were cancelled take no
/// place with them.
#[test]
fn f_db_06_an_exhausted_pool_says_so_and_loses_no_place() {
    let Some(options) = shared() else { return };
    run(async {
        let options = PostgresOptions {
            max_connections: 3,
            connection_timeout: Duration::from_millis(500),
            ..options
        };
        let db = connect(&options).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(db.begin(TxOptions::default()).await.unwrap());
        }
        let mut waiters = JoinSet::new();
        for number in 0..100 {
            let db = db.clone();
            waiters.spawn(async move {
                let query = db.query(sql("SELECT 1"));
                if number % 2 == 0 {
                    return tokio::time::timeout(Duration::from_millis(number), query)
                        .await
                        .ok();
                }
                Some(query.await)
            });
        }
        let mut failed = 0;
        for answer in waiters.join_all().await.into_iter().flatten() {
            let error = answer.unwrap_err();
            assert_eq!(
                (error.kind(), error.code()),
                (Kind::Temporary, Some(Code::Exhausted))
            );
            let shown = error.to_string();
            assert!(
                shown.contains("in_use=3") && shown.contains("max_connections=3"),
                "{shown}"
            );
            failed += 1;
        }
        assert_eq!(failed, 50);
        drop(held);
        pool_is_clean(&db, 3).await;
    });
}

/// DB-3, S-06: the server's own limits; each says what it is, and none costs more than its statement or transaction.
#[test]
fn limits_of_the_server_are_told_apart() {
    let Some(options) = shared() else { return };
    run(async {
        let options = PostgresOptions {
            statement_timeout: Duration::from_millis(600),
            lock_timeout: Some(Duration::from_millis(100)),
            idle_in_transaction_timeout: Duration::from_millis(300),
            ..options
        };
        let db = connect(&options).await;
        let error = db.execute(sql("SELECT pg_sleep(5)")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Timeout)),
            "{error}"
        );
        assert!(
            !error.may_have_applied(),
            "the server said that it cancelled it: {error}"
        );

        db.execute(sql("CREATE TABLE t (id BIGINT)")).await.unwrap();
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(sql("LOCK TABLE t")).await.unwrap();
        let error = db.execute(sql("INSERT INTO t VALUES (1)")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Conflict)),
            "{error}"
        );
        until(
            &db,
            "SELECT count(*) = 0 FROM pg_locks WHERE relation = 't'::regclass",
        )
        .await;
        let error = tx.execute(sql("INSERT INTO t VALUES (1)")).await.unwrap_err();
        assert!(error.is_temporary() && !error.may_have_applied(), "{error}");
        drop(tx);

        let me: i64 = one(&db, "SELECT pg_backend_pid()").await;
        let other = connect(&options).await;
        let killed = db
            .execute(sql("SELECT pg_terminate_backend(pg_backend_pid())"))
            .await
            .unwrap_err();
        assert_eq!(
            (killed.kind(), killed.code()),
            (Kind::Temporary, Some(Code::Unavailable)),
            "{killed}"
        );
        assert_ne!(one::<i64>(&db, "SELECT pg_backend_pid()").await, me);
        other.close().await.unwrap();
    });
}

/// DB-9: close waits for what runs, within its limit.
#[test]
fn db_9_close_waits_for_running_statements() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&PostgresOptions {
            statement_timeout: Duration::from_secs(2),
            ..options.clone()
        })
        .await;
        let running = db.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { running.execute(sql("SELECT pg_sleep(0.5)")).await });
        while one::<i64>(
            &db,
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(0.5)'",
        )
        .await
            == 0
        {
            tokio::task::yield_now().await;
        }
        db.close().await.unwrap();
        tasks.join_next().await.unwrap().unwrap().unwrap();

        let db = connect(&PostgresOptions {
            statement_timeout: Duration::from_millis(300),
            ..options
        })
        .await;
        let tx = db.begin(TxOptions::default()).await.unwrap();
        let error = db.close().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Timeout)),
            "{error}"
        );
        db.close().await.unwrap();
        drop(tx);
        assert_eq!(db.ping().await.unwrap_err().code(), Some(Code::Closed));
    });
}

/// DB-2: the least number of connections is kept, the rest is closed when idle, all are replaced in time.
#[test]
fn ml_db_2_the_pool_keeps_its_limits() {
    let Some(options) = shared() else { return };
    run(async {
        let watch = connect(&options).await;
        let options = PostgresOptions {
            application_name: "watched".into(),
            min_connections: 2,
            max_connections: 6,
            idle_timeout: Duration::from_millis(400),
            max_lifetime: Duration::from_millis(2_000),
            ..options
        };
        let db = connect(&options).await;
        let is = async |count: i64| {
            let statement =
                sql("SELECT count(*) = $1 FROM pg_stat_activity WHERE application_name = 'watched'");
            for _ in 0..500 {
                if watch.query(statement.clone().bind(count)).await.unwrap()[0]
                    .at::<bool>(0)
                    .unwrap()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("never {count} connections");
        };
        is(2).await;
        let first: i64 = one(&db, "SELECT pg_backend_pid()").await;
        pool_is_clean(&db, 6).await;
        is(6).await;
        is(2).await;
        while one::<i64>(&db, "SELECT pg_backend_pid()").await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        is(2).await;
        db.close().await.unwrap();
        is(0).await;
    });
}
