//! Deadlines, cancellation, an exhausted pool, closing.

use futures::FutureExt as _;
use tracing::Level;

use super::*;
use crate::testing::Logged;

/// S-06: so is a statement that a user's text made endless.
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
            statement_timeout: SECOND / 2,
            ..options
        })
        .await;
        db.execute(insert("a")).await.unwrap();
        let error = db.query(sql(ENDLESS)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Temporary, Some(Code::Timeout))
        );
        assert_eq!(timeout(5 * SECOND, count(&db)).await.unwrap(), 1);

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
        assert_eq!(timeout(5 * SECOND, count(&db)).await.unwrap(), 1);
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
            let mut lease = db.pool.acquire(false).await.unwrap();
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
        acquire_timeout: SECOND,
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
    assert!(started.elapsed() < 3 * SECOND);
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
            shown.contains("within 1s") && shown.contains("max_connections=2") && shown.contains("in_use=2"),
            "{shown}"
        );
    }
    drop(held);
    let both = [
        db.pool.acquire(false).await.unwrap(),
        db.pool.acquire(false).await.unwrap(),
    ];
    drop(both);
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn writers_take_turns_in_the_order_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(file(&folder)).await;
    let first = db.begin(TxOptions::default()).await.unwrap();
    let mut second = db.begin(TxOptions::default());
    assert!((&mut second).now_or_never().is_none());
    // Left to itself SQLite looks again after pauses that grow to a tenth of a second.
    tokio::time::sleep(SECOND / 2).await;
    let readers = (0..3).map(|_| count(&db));
    futures::future::join_all(readers).await;
    first.rollback().await.unwrap();
    match futures::future::select(second, db.execute(insert("third"))).await {
        futures::future::Either::Left((begun, third)) => {
            begun.unwrap().rollback().await.unwrap();
            third.await.unwrap();
        }
        futures::future::Either::Right(_) => panic!("who came later wrote first"),
    }
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
        statement_timeout: SECOND / 2,
        ..SqliteOptions::memory()
    })
    .await;
    let tx = db.begin(TxOptions::default()).await.unwrap();
    let error = timeout(5 * SECOND, db.close()).await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Timeout))
    );
    drop(tx);
    assert_eq!(db.ping().await.unwrap_err().code(), Some(Code::Closed));
}

#[tokio::test]
async fn db_10_slow_statements_are_logged_without_their_parameters() {
    let logged = Logged::of("cqi_core::database", Level::WARN);
    let _guard = logged.install();
    let slow = SqliteOptions {
        slow_threshold: Duration::ZERO,
        ..SqliteOptions::memory()
    };
    let text = format!(
        "SELECT $1 AS owned, 'canary' AS literal{}",
        ", 1 AS more".repeat(1_000)
    );
    let select = || sql(text.clone()).bind("canary");
    memory().await.query(select()).await.unwrap();
    assert_eq!(logged.lines(), []);
    SqliteDatabase::open(slow)
        .await
        .unwrap()
        .query(select())
        .await
        .unwrap();
    let lines: String = logged.lines().into_iter().map(|(_, line)| line).collect();
    for part in [
        "slow statement",
        "operation=\"SELECT\"",
        "SELECT $1 AS owned, ? AS literal, ? AS more",
        "elapsed_ms=",
    ] {
        assert!(lines.contains(part), "{lines}");
    }
    assert!(!lines.contains("canary") && lines.len() < 4096, "{lines}");
}
