//! Convenience over the database port: single rows, savepoints, and transactions that cannot be forgotten.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::{FutureExt as _, future::BoxFuture};

use super::{Database, Executor, Row, Statement, Transaction, TxOptions, sql};
use crate::{
    Code, Error, Kind, Result,
    policy::{Retry, RetryOn, run_with_data},
};

/// For everything that runs statements: a database, a transaction, a `&dyn Executor`.
pub trait ExecutorExt: Executor {
    /// The one row of a result.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Permanent`/`FailedPrecondition` when there are several: a row picked by chance
    /// helps nobody. Else as [`Executor::query`].
    fn query_row(&self, statement: Statement) -> impl Future<Output = Result<Row>> + Send {
        async move {
            self.query_opt(statement)
                .await?
                .ok_or_else(|| Error::new(Kind::NotFound, "no such row").with_operation("database.query"))
        }
    }

    /// The one row of a result, or `None`.
    ///
    /// # Errors
    /// As [`ExecutorExt::query_row`], but for the missing row.
    fn query_opt(&self, statement: Statement) -> impl Future<Output = Result<Option<Row>>> + Send {
        async move {
            let mut rows = self.query(statement).await?;
            if rows.len() > 1 {
                return Err(Error::permanent("more than one row")
                    .with_code(Code::FailedPrecondition)
                    .with_operation("database.query")
                    .with_context("rows", rows.len()));
            }
            Ok(rows.pop())
        }
    }

    /// Runs `work` in a savepoint of the transaction this is: on `Err` and on a panic only what `work` changed is taken
    /// back, and the transaction goes on. Savepoints nest; two at a time on one transaction do not work.
    ///
    /// Cancel safety: none. When the future is dropped midway, the transaction has to be rolled back; dropping it does.
    ///
    /// # Errors
    /// The error of `work`; else what setting or releasing the savepoint failed with, which outside of a transaction is
    /// `InvalidInput` or `Permanent`.
    fn with_savepoint<T, F>(&self, work: F) -> impl Future<Output = Result<T>> + Send
    where
        F: for<'a> FnOnce(&'a Self) -> BoxFuture<'a, Result<T>> + Send,
        T: Send,
    {
        async move {
            self.execute(sql("SAVEPOINT cqi")).await?;
            // A nested savepoint of the same name hides the outer one until it is released.
            let outcome = AssertUnwindSafe(async { work(self).await }).catch_unwind().await;
            if !matches!(outcome, Ok(Ok(_))) {
                let undone = async {
                    self.execute(sql("ROLLBACK TO SAVEPOINT cqi")).await?;
                    self.execute(sql("RELEASE SAVEPOINT cqi")).await
                };
                log_failed_rollback(
                    undone.await.map(drop),
                    outcome.as_ref().ok().and_then(|r| r.as_ref().err()),
                );
            }
            match outcome {
                Ok(Ok(value)) => self.execute(sql("RELEASE SAVEPOINT cqi")).await.map(|_| value),
                Ok(Err(error)) => Err(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }
}

impl<E: Executor + ?Sized> ExecutorExt for E {}

/// For every database.
///
/// ```
/// # use std::sync::Arc;
/// use cqi_core::{Result, database::{Database, DatabaseExt, Executor, sql}};
///
/// async fn rename(db: &dyn Executor, id: i64, name: &str) -> Result<()> {
///     db.execute(sql("UPDATE asset SET name = $1 WHERE id = $2").bind(name).bind(id)).await.map(drop)
/// }
///
/// async fn swap_names(db: Arc<dyn Database>) -> Result<()> {
///     db.with_transaction(|tx| Box::pin(async move {
///         rename(tx, 1, "Ether").await?;
///         rename(tx, 2, "Bitcoin").await
///     })).await
/// }
/// ```
pub trait DatabaseExt: Database {
    /// Runs `work` in a transaction: commits on `Ok`, rolls back on `Err`, on a panic, which then goes on (OP-20), and
    /// when the future is dropped (DB-5, DB-6, ML-DB-3).
    ///
    /// What `work` uses is moved into it; it can borrow nothing but the transaction.
    ///
    /// # Errors
    /// The error of `work`, also when rolling back fails too (that is logged); else of begin or commit. A commit that
    /// was cut off says [`may_have_applied`](Error::may_have_applied).
    fn with_transaction<T, F>(&self, work: F) -> impl Future<Output = Result<T>> + Send
    where
        F: for<'a> FnOnce(&'a dyn Executor) -> BoxFuture<'a, Result<T>> + Send,
        T: Send,
    {
        async move { finish(self.begin(TxOptions::default()).await?, work).await }
    }

    /// As [`DatabaseExt::with_transaction`] with options, and the whole of it again, in a new transaction, when it fails
    /// with `Temporary`/`Conflict` and certainly had no effect (F-DB-09). `retry` says how often and how fast; its `on`
    /// is not looked at. Conflicts pass quickly, so a first pause of some milliseconds is apt.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid `retry`, else the last attempt's error.
    fn with_transaction_opts<T, F>(
        &self,
        options: TxOptions,
        retry: Retry,
        work: F,
    ) -> impl Future<Output = Result<T>> + Send
    where
        F: for<'a> Fn(&'a dyn Executor) -> BoxFuture<'a, Result<T>> + Send + Sync,
        T: Send,
    {
        async move {
            let conflict = |error: &Error| {
                error.is_temporary() && error.code() == Some(Code::Conflict) && !error.may_have_applied()
            };
            let retry = Retry {
                on: RetryOn::func(conflict),
                ..retry
            };
            run_with_data(&retry, || async {
                finish(self.begin(options).await?, &work).await
            })
            .await
        }
    }
}

impl<D: Database + ?Sized> DatabaseExt for D {}

async fn finish<T, F>(tx: Box<dyn Transaction>, work: F) -> Result<T>
where
    F: for<'a> FnOnce(&'a dyn Executor) -> BoxFuture<'a, Result<T>> + Send,
    T: Send,
{
    match AssertUnwindSafe(async { work(&*tx).await }).catch_unwind().await {
        Ok(Ok(value)) => tx.commit().await.map(|()| value),
        Ok(Err(error)) => {
            log_failed_rollback(tx.rollback().await, Some(&error));
            Err(error)
        }
        Err(panic) => {
            log_failed_rollback(tx.rollback().await, None);
            std::panic::resume_unwind(panic)
        }
    }
}

/// The first error is what the caller gets, so the second one would be lost.
fn log_failed_rollback(rollback: Result<()>, error: Option<&Error>) {
    if let Err(failed) = rollback {
        let error = error.map_or_else(|| "panic".to_owned(), |error| error.chain().to_string());
        tracing::warn!(error, rollback_error = %failed.chain(), "rolling back failed");
    }
}

#[cfg(feature = "sqlite")]
#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use tokio::task::JoinSet;

    use super::*;
    use crate::database::{SqliteDatabase, SqliteOptions};

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

    #[tokio::test]
    async fn ml_db_3_the_closures_error_wins_over_a_failed_rollback() {
        let db = memory().await;
        let closing = Arc::clone(&db);
        let result = db.with_transaction(move |tx| {
            Box::pin(async move {
                // SQLite ends the transaction here, so there is nothing left to roll back.
                insert(tx, 1).await?;
                let _ = tx.execute(sql("INSERT OR ROLLBACK INTO t (v) VALUES (1)")).await;
                let _ = closing.dialect();
                Err::<(), _>(Error::invalid_input("mine"))
            })
        });
        assert_eq!(result.await.unwrap_err().message(), "mine");
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
}
