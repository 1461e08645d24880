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
mod tests;
