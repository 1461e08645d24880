//! F-DB-03: futures dropped wherever they wait. This test stays for ever: the driver's own pool failed it.

use std::time::Duration;

use cqi_core::database::{Database, Executor, TxOptions, sql};
use tokio::time::{Instant, timeout};

use crate::support::{connect, connect_one, one, pool_is_clean, run, shared, until};

/// Drops a call after 10 µs to 5 ms, most of them early, so that it falls on every await. Tokio's timers are too coarse.
async fn cut<F: Future>(round: u64, call: F) -> Option<F::Output> {
    let part = (round * 7_919) % 100;
    let until = Instant::now() + Duration::from_micros(10 + part * part * part / 200);
    let clock = async {
        while Instant::now() < until {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        output = call => Some(output),
        () = clock => None,
    }
}

#[test]
fn f_db_03_a_cancelled_call_leaves_nothing_to_the_next_borrower() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect_one(options).await;
        db.execute(sql("CREATE TABLE t (id BIGINT PRIMARY KEY)"))
            .await
            .unwrap();
        let mut cancelled = 0;
        for round in 0..2_000_u64 {
            let id = i64::try_from(round).unwrap();
            let ended = match round % 4 {
                0 => cut(round, db.begin(TxOptions::default())).await.is_some(),
                1 => {
                    let query = db.query(sql("SELECT CAST($1 AS BIGINT)").bind(-id));
                    cut(round, query).await.is_some()
                }
                2 => {
                    let transaction = async {
                        let tx = db.begin(TxOptions::default()).await?;
                        tx.execute(sql("INSERT INTO t VALUES ($1)").bind(id)).await?;
                        tx.rollback().await
                    };
                    cut(round, transaction).await.is_some()
                }
                _ => {
                    // The driver's own begin, which left the next borrower inside a transaction (M9).
                    let transaction = async {
                        let mut raw = db.acquire().await.unwrap();
                        let tx = sqlx::Connection::begin(raw.get().unwrap()).await.unwrap();
                        tx.rollback().await.unwrap();
                    };
                    cut(round, transaction).await.is_some()
                }
            };
            cancelled += u64::from(!ended);
            let rows =
                db.query(sql("SELECT CAST($1 AS BIGINT), pg_current_xact_id_if_assigned()::text").bind(id));
            let rows = rows.await.unwrap();
            assert_eq!(
                rows[0].at::<i64>(0).unwrap(),
                id,
                "somebody else's answer in round {round}"
            );
            // Works only inside a transaction.
            let foreign = db.execute(sql("SAVEPOINT cqi")).await;
            assert!(foreign.is_err(), "round {round} left a transaction open");
        }
        println!("F-DB-03: {cancelled} of 2000 calls were cut");
        assert!(cancelled > 100, "the sweep cut {cancelled} calls only");
        assert_eq!(one::<i64>(&db, "SELECT count(*) FROM t").await, 0);
        pool_is_clean(&db, 1).await;
        until(&db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'")
            .await;
    });
}

/// The server stops working on what nobody waits for, and a dropped transaction gives up its locks at once.
#[test]
fn what_was_dropped_ends_on_the_server_too() {
    let Some(options) = shared() else { return };
    run(async {
        let db = connect(&options).await;
        db.execute(sql("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)"))
            .await
            .unwrap();
        db.execute(sql("INSERT INTO t VALUES (1, 0)")).await.unwrap();
        tokio::select! {
            _ = db.execute(sql("SELECT pg_sleep(20)")) => panic!("it sleeps longer"),
            () = until(&db, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'") => {}
        }
        until(&db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'")
            .await;

        let before: i64 = one(
            &db,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
        )
        .await;
        for _ in 0..50 {
            let tx = db.begin(TxOptions::default()).await.unwrap();
            tx.execute(sql("UPDATE t SET n = 1")).await.unwrap();
            drop(tx);
            let waiting = timeout(Duration::from_secs(2), db.execute(sql("UPDATE t SET n = 2")));
            waiting
                .await
                .expect("the dropped transaction still holds its lock")
                .unwrap();
        }
        // Rolled back, not reconnected.
        let after: i64 = one(
            &db,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
        )
        .await;
        assert!(after <= before + 2, "{before} connections became {after}");
    });
}
