use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::*;
use crate::{
    database::{Dialect, SqliteDatabase, SqliteOptions},
    testing::Logged,
};

async fn memory() -> Arc<dyn Database> {
    let db = SqliteDatabase::in_memory().await.unwrap();
    db.execute(sql("CREATE TABLE t (v INTEGER UNIQUE)"))
        .await
        .unwrap();
    Arc::new(db)
}

async fn insert(on: &dyn Executor, v: i64) -> Result<u64> {
    on.execute(sql("INSERT INTO t (v) VALUES ($1)").bind(v)).await
}

async fn values(on: &dyn Executor) -> Vec<i64> {
    let rows = on.query(sql("SELECT v FROM t ORDER BY v")).await.unwrap();
    rows.iter().map(|row| row.at(0).unwrap()).collect()
}

#[tokio::test]
async fn db_1_query_row_wants_exactly_one() {
    let db = memory().await;
    let one = |n: i64| sql("SELECT v FROM t WHERE v < $1").bind(n);
    assert!(db.query_row(one(1)).await.unwrap_err().is_not_found());
    assert_eq!(db.query_opt(one(1)).await.unwrap(), None);
    insert(&*db, 0).await.unwrap();
    assert_eq!(db.query_row(one(1)).await.unwrap().at::<i64>(0).unwrap(), 0);
    insert(&*db, 1).await.unwrap();
    for error in [
        db.query_row(one(2)).await.map(drop),
        db.query_opt(one(2)).await.map(drop),
    ] {
        assert_eq!(error.unwrap_err().code(), Some(Code::FailedPrecondition));
    }
}

#[tokio::test]
async fn db_5_ok_commits_and_err_rolls_back() {
    let db = memory().await;
    let v = db
        .with_transaction(|tx| Box::pin(async move { insert(tx, 1).await }))
        .await
        .unwrap();
    assert_eq!(v, 1);
    let failing = db.with_transaction(|tx| {
        Box::pin(async move {
            insert(tx, 2).await?;
            Err::<(), _>(Error::not_found("asset", 7))
        })
    });
    assert!(failing.await.unwrap_err().is_not_found());
    assert_eq!(values(&*db).await, [1]);
}

#[tokio::test]
async fn db_6_op_20_a_panic_rolls_back_and_goes_on_also_when_spawned() {
    let db = memory().await;
    let mut tasks = JoinSet::new();
    let spawned = Arc::clone(&db);
    tasks.spawn(async move {
        let work = spawned.with_transaction(|tx| {
            Box::pin(async move {
                insert(tx, 1).await?;
                assert!(values(tx).await.is_empty(), "on purpose");
                Ok(())
            })
        });
        work.await
    });
    assert!(tasks.join_next().await.unwrap().unwrap_err().is_panic());
    assert!(values(&*db).await.is_empty());
}

#[tokio::test]
async fn ml_db_3_dropping_the_future_rolls_back() {
    let db = memory().await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let work = db.with_transaction(move |tx| {
        Box::pin(async move {
            insert(tx, 1).await?;
            let _ = tell.send(());
            std::future::pending::<Result<()>>().await
        })
    });
    tokio::select! {
        _ = work => unreachable!("it never ends"),
        _ = told => {}
    }
    assert!(values(&*db).await.is_empty());
}

/// Begins transactions whose rollback fails.
#[derive(Debug)]
struct Stuck;

#[async_trait]
impl Executor for Stuck {
    async fn execute(&self, _: Statement) -> Result<u64> {
        Ok(0)
    }

    async fn query(&self, _: Statement) -> Result<Vec<Row>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Database for Stuck {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn begin(&self, _: TxOptions) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(Self))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Transaction for Stuck {
    async fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        Err(Error::temporary("rollback cut off"))
    }
}

#[tokio::test]
async fn ml_db_3_the_closures_error_wins_over_a_failed_rollback_and_both_are_logged() {
    let log = Logged::of("cqi_core::database", tracing::Level::WARN);
    let _guard = log.install();
    let failing = Stuck.with_transaction(|_| Box::pin(async { Err::<(), _>(Error::invalid_input("mine")) }));
    assert_eq!(failing.await.unwrap_err().message(), "mine");
    let logged: String = log.lines().into_iter().map(|(_, line)| line).collect();
    assert!(
        logged.contains("error=\"mine\"") && logged.contains("rollback_error=rollback cut off"),
        "{logged}"
    );
}

#[tokio::test]
#[should_panic(expected = "on purpose")]
async fn op_20_a_panic_goes_on_although_the_rollback_fails() {
    let _ = Stuck
        .with_transaction(|_| -> BoxFuture<'_, Result<()>> { panic!("on purpose") })
        .await;
}

#[tokio::test]
async fn ml_db_4_savepoints_take_back_their_part_only() {
    let db = memory().await;
    assert!(
        db.with_savepoint(|db| Box::pin(async move { insert(db, 9).await }))
            .await
            .is_err()
    );
    let work = db.with_transaction(|tx| {
        Box::pin(async move {
            insert(tx, 1).await?;
            let inner = tx.with_savepoint(|tx| {
                Box::pin(async move {
                    insert(tx, 2).await?;
                    let nested = tx.with_savepoint(|tx| {
                        Box::pin(async move {
                            insert(tx, 3).await?;
                            Err::<(), _>(Error::permanent("nested"))
                        })
                    });
                    assert!(nested.await.is_err());
                    insert(tx, 4).await
                })
            });
            inner.await?;
            let failed = tx.with_savepoint(|tx| {
                Box::pin(async move {
                    insert(tx, 5).await?;
                    insert(tx, 1).await
                })
            });
            assert_eq!(failed.await.unwrap_err().code(), Some(Code::AlreadyExists));
            insert(tx, 6).await
        })
    });
    work.await.unwrap();
    assert_eq!(values(&*db).await, [1, 2, 4, 6]);
}

#[tokio::test]
async fn f_db_09_conflicts_repeat_the_whole_closure_and_take_effect_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        max_connections: 8,
        busy_timeout: Duration::ZERO,
        ..SqliteOptions::file(folder.path().join("t.db"))
    };
    let db: Arc<dyn Database> = Arc::new(SqliteDatabase::open(options).await.unwrap());
    db.execute(sql("CREATE TABLE t (v INTEGER)")).await.unwrap();
    insert(&*db, 0).await.unwrap();
    let (retry, attempts) = (
        Retry {
            attempts: 1000,
            initial: Duration::from_millis(1),
            max: Duration::from_millis(20),
            ..Retry::default()
        },
        Arc::new(AtomicU32::new(0)),
    );
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (db, retry, attempts) = (Arc::clone(&db), retry.clone(), Arc::clone(&attempts));
        tasks.spawn(async move {
            for _ in 0..5 {
                let add = db.with_transaction_opts(TxOptions::default(), retry.clone(), |tx| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    Box::pin(async move {
                        let v: i64 = tx.query_row(sql("SELECT v FROM t")).await?.at(0)?;
                        tx.execute(sql("UPDATE t SET v = $1").bind(v + 1)).await
                    })
                });
                add.await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(values(&*db).await, [40]);
    // Whatever is no conflict is not repeated.
    attempts.store(0, Ordering::Relaxed);
    let counted = Arc::clone(&attempts);
    let failing = db.with_transaction_opts(TxOptions::default(), retry, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err::<(), _>(Error::temporary("x")) })
    });
    assert!(failing.await.is_err());
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}
