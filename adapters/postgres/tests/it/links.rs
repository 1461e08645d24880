//! Links that break or fall silent between a client and a server that works.

use std::time::Duration;

use cqi_core::{
    Code,
    database::{Database, Executor, TxOptions, sql},
};
use cqi_postgres::PostgresOptions;
use cqi_testkit::{
    fixture::{self, Kind},
    proxy::{Direction, Proxy},
};
use tokio::time::Instant;

use crate::support::{connect, one, pool_is_clean, run, shared};

/// An empty database, behind a proxy.
async fn behind_proxy(options: PostgresOptions) -> (Proxy, PostgresOptions) {
    let server = fixture::shared(Kind::Postgres).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let address = proxy.address();
    (
        proxy,
        PostgresOptions {
            host: address.ip().to_string(),
            port: address.port(),
            ..options
        },
    )
}

/// F-DB-07: the link swallows everything. Our deadline holds, the connection is not used again, and what the lost calls
/// did is told apart.
#[test]
fn f_db_07_the_deadline_holds_in_a_black_hole() {
    let Some(options) = shared() else { return };
    run(async {
        let options = PostgresOptions {
            statement_timeout: Duration::from_millis(300),
            ..options
        };
        let (proxy, options) = behind_proxy(options).await;
        let db = connect(&options).await;
        db.execute(sql("CREATE TABLE t (id BIGINT PRIMARY KEY)"))
            .await
            .unwrap();
        let tx = db.begin(TxOptions::default()).await.unwrap();
        tx.execute(sql("INSERT INTO t VALUES (1)")).await.unwrap();
        let pid: i64 = one(&db, "SELECT pg_backend_pid()").await;
        proxy.black_hole_old(Direction::Both);
        let start = Instant::now();
        let error = db.execute(sql("INSERT INTO t VALUES (2)")).await.unwrap_err();
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "took {:?}",
            start.elapsed()
        );
        assert_eq!(
            (error.is_temporary(), error.code(), error.may_have_applied()),
            (true, Some(Code::Timeout), true)
        );
        let error = tx.execute(sql("INSERT INTO t VALUES (3)")).await.unwrap_err();
        assert_eq!(
            (error.code(), error.may_have_applied()),
            (Some(Code::Timeout), false)
        );
        drop(tx);
        // New connections work, and none of the old ones comes back.
        assert_ne!(one::<i64>(&db, "SELECT pg_backend_pid()").await, pid);
        pool_is_clean(&db, 4).await;
    });
}

/// However many idle connections have gone silent, a call that finds them gets through to a server that works.
#[test]
fn f_db_07_many_silent_idle_connections_cost_one_wait() {
    let Some(options) = shared() else { return };
    run(async {
        let (proxy, options) = behind_proxy(PostgresOptions {
            max_connections: 8,
            connection_timeout: Duration::from_secs(2),
            ..options
        })
        .await;
        let db = connect(&options).await;
        pool_is_clean(&db, 8).await;
        // Each is asked from now on, before it is used.
        db.execute(sql("DROP TABLE IF EXISTS t")).await.unwrap();
        proxy.black_hole_old(Direction::Both);
        let start = Instant::now();
        assert!(one::<bool>(&db, "SELECT true").await);
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "took {:?}",
            start.elapsed()
        );
        pool_is_clean(&db, 8).await;
    });
}

/// A connection that broke while it was idle is found out before it is used; in the first second after its use the
/// statement that meets it fails, and takes the others with it.
#[test]
fn broken_idle_connections_are_not_handed_out() {
    let Some(options) = shared() else { return };
    run(async {
        let (proxy, options) = behind_proxy(options).await;
        let db = connect(&options).await;
        pool_is_clean(&db, 4).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        proxy.cut();
        pool_is_clean(&db, 4).await;
        proxy.reset();
        let error = db.execute(sql("SELECT 1")).await.unwrap_err();
        assert_eq!(
            (error.is_temporary(), error.code()),
            (true, Some(Code::Unavailable)),
            "{error}"
        );
        pool_is_clean(&db, 4).await;
    });
}

/// The link breaks after some bytes of the answers, at each place there is: whatever was said to be done is done, and
/// what was said to be certainly not done is not.
#[test]
fn a_cut_anywhere_is_told_truly() {
    let Some(options) = shared() else { return };
    run(async {
        let (proxy, options) = behind_proxy(options).await;
        let direct = connect(&PostgresOptions {
            port: fixture::shared(Kind::Postgres).unwrap().address().port(),
            ..options.clone()
        })
        .await;
        direct
            .execute(sql("CREATE TABLE t (id BIGINT PRIMARY KEY)"))
            .await
            .unwrap();
        let db = connect(&options).await;
        let (mut unknown, mut applied) = (0, 0);
        for round in 0..120_i64 {
            let bytes = u64::try_from(round).unwrap() * 3;
            let held = db.begin(TxOptions::default()).await.unwrap();
            proxy.cut_after(
                if round % 2 == 0 {
                    Direction::Down
                } else {
                    Direction::Up
                },
                bytes,
            );
            let done = async {
                held.execute(sql("INSERT INTO t VALUES ($1)").bind(round)).await?;
                held.commit().await
            };
            let done = done.await;
            proxy.heal().await;
            let there = direct
                .query(sql("SELECT id FROM t WHERE id = $1").bind(round))
                .await
                .unwrap()
                .len()
                == 1;
            match done {
                Ok(()) => assert!(there, "round {round}: committed and not there"),
                Err(error) if error.may_have_applied() => {
                    (unknown, applied) = (unknown + 1, applied + i32::from(there))
                }
                Err(error) => {
                    assert!(!there, "round {round}: there, though: {error}");
                    assert!(
                        error.is_temporary() || error.code() == Some(Code::FailedPrecondition),
                        "{error}"
                    );
                }
            }
            // Whoever meets another connection that the cut has broken sees one error at most.
            while db.query(sql("SELECT 1")).await.is_err() {}
        }
        println!("cut anywhere: {unknown} of 120 commits unknown, {applied} of them applied");
        assert!(unknown > 0 && applied > 0, "no cut fell on a commit");
        pool_is_clean(&db, 4).await;
    });
}

/// Bytes that arrive one by one.
#[test]
fn a_slow_link_changes_nothing() {
    let Some(options) = shared() else { return };
    run(async {
        let (proxy, options) = behind_proxy(options).await;
        proxy.slice();
        let db = connect(&options).await;
        let rows = db
            .query(sql("SELECT repeat('x', 500), CAST($1 AS BIGINT)").bind(7))
            .await
            .unwrap();
        assert_eq!(rows[0].at::<String>(0).unwrap().len(), 500);
        assert_eq!(rows[0].at::<i64>(1).unwrap(), 7);
    });
}

/// DB-7: while nobody listens calls fail at once with the reason, and work again once somebody does.
#[test]
fn db_7_a_refusing_server_is_named_and_found_again() {
    let Some(options) = shared() else { return };
    run(async {
        let (proxy, options) = behind_proxy(options).await;
        let db = connect(&options).await;
        proxy.refuse().await;
        proxy.reset();
        drop(db.query(sql("SELECT 1")).await);
        let start = Instant::now();
        let error = db.query(sql("SELECT 1")).await.unwrap_err();
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "took {:?}",
            start.elapsed()
        );
        assert_eq!(
            (error.is_temporary(), error.code(), error.may_have_applied()),
            (true, Some(Code::Unavailable), false)
        );
        assert!(
            error.to_string().contains(&proxy.address().to_string()),
            "{error}"
        );
        proxy.heal().await;
        let start = Instant::now();
        while db.query(sql("SELECT 1")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "recovered after {:?}",
            start.elapsed()
        );
    });
}
