//! The database under a policy: deadline, retry, observation and a span for every call.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::{Span, field::Empty, info_span};

use super::{Database, Dialect, Executor, Row, Statement, Transaction, TxOptions, outline::outline};
use crate::{
    Error, Result,
    policy::{Policy, Repeat, Retry},
};

/// Puts every call of a database under a [`Policy`].
///
/// `SELECT` queries, `begin` and `ping` may be repeated after any temporary error; other statements only after one that
/// certainly had no effect. Inside a transaction nothing is repeated, since an error may have ended it: repeat the whole
/// with [`with_transaction_opts`](super::DatabaseExt::with_transaction_opts). `close` has its own limit.
///
/// When the current trace is recorded, every call runs in a span (`database.query`, `database.execute`, …) with the
/// OpenTelemetry attributes `db.system.name`, `db.operation.name` and `db.query.text`: the statement without literals and
/// parameters.
#[derive(Debug, Clone)]
pub struct GuardedDatabase {
    inner: Arc<dyn Database>,
    policy: Policy,
    /// The same without retry, for what runs in a transaction.
    once: Policy,
}

impl GuardedDatabase {
    /// `inner` under `policy`.
    pub fn new(inner: Arc<dyn Database>, policy: Policy) -> Self {
        let once =
            Policy::new(policy.deadline(), Retry::never()).with_observer(Arc::clone(policy.observer()));
        Self { inner, policy, once }
    }

    fn system(&self) -> &'static str {
        system(self.inner.dialect())
    }
}

/// The name OpenTelemetry gives the system.
fn system(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgresql",
    }
}

/// The span of a call, if its trace is recorded. Names are constants, so this is a macro.
macro_rules! span {
    ($policy:expr, $name:literal, $system:expr, $operation:expr) => {
        span!($policy, $name, $system, $operation, Empty)
    };
    ($policy:expr, $name:literal, $system:expr, $operation:expr, $text:expr) => {
        if $policy.records_trace() {
            info_span!(
                $name,
                db.system.name = $system,
                db.operation.name = $operation,
                db.query.text = $text,
                error.type = Empty,
            )
        } else {
            Span::none()
        }
    };
}

fn execute_span(policy: &Policy, system: &'static str, statement: &Statement) -> Span {
    let operation = statement.operation();
    span!(
        policy,
        "database.execute",
        system,
        operation,
        outline(statement.text())
    )
}

fn query_span(policy: &Policy, system: &'static str, statement: &Statement) -> Span {
    let operation = statement.operation();
    span!(
        policy,
        "database.query",
        system,
        operation,
        outline(statement.text())
    )
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Executor for GuardedDatabase {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        let span = execute_span(&self.policy, self.system(), &statement);
        let call = || self.inner.execute(statement.clone());
        self.policy
            .call_in(span, "database.execute", Repeat::Unsafe, call)
            .await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        let span = query_span(&self.policy, self.system(), &statement);
        let reads = statement.operation().eq_ignore_ascii_case("SELECT");
        let repeat = if reads { Repeat::Safe } else { Repeat::Unsafe };
        let call = || self.inner.query(statement.clone());
        self.policy.call_in(span, "database.query", repeat, call).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Database for GuardedDatabase {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn begin(&self, options: TxOptions) -> Result<Box<dyn Transaction>> {
        let span = span!(self.policy, "database.begin", self.system(), "BEGIN");
        let begin = || self.inner.begin(options);
        let inner = self
            .policy
            .call_in(span, "database.begin", Repeat::Safe, begin)
            .await?;
        Ok(Box::new(GuardedTransaction {
            inner,
            once: self.once.clone(),
            system: self.system(),
        }))
    }

    async fn ping(&self) -> Result<()> {
        let span = span!(self.policy, "database.ping", self.system(), "PING");
        self.policy
            .call_in(span, "database.ping", Repeat::Safe, || self.inner.ping())
            .await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct GuardedTransaction {
    inner: Box<dyn Transaction>,
    once: Policy,
    system: &'static str,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Executor for GuardedTransaction {
    async fn execute(&self, statement: Statement) -> Result<u64> {
        let span = execute_span(&self.once, self.system, &statement);
        let mut statement = Some(statement);
        let call = || {
            let statement = statement.take();
            async move { self.inner.execute(statement.ok_or_else(repeated)?).await }
        };
        self.once
            .call_in(span, "database.execute", Repeat::Unsafe, call)
            .await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        let span = query_span(&self.once, self.system, &statement);
        let mut statement = Some(statement);
        let call = || {
            let statement = statement.take();
            async move { self.inner.query(statement.ok_or_else(repeated)?).await }
        };
        self.once
            .call_in(span, "database.query", Repeat::Unsafe, call)
            .await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transaction for GuardedTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        let span = span!(self.once, "database.commit", self.system, "COMMIT");
        let mut inner = Some(self.inner);
        let call = || {
            let inner = inner.take();
            async move { inner.ok_or_else(repeated)?.commit().await }
        };
        self.once
            .call_in(span, "database.commit", Repeat::Unsafe, call)
            .await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let span = span!(self.once, "database.rollback", self.system, "ROLLBACK");
        let mut inner = Some(self.inner);
        let call = || {
            let inner = inner.take();
            async move { inner.ok_or_else(repeated)?.rollback().await }
        };
        self.once
            .call_in(span, "database.rollback", Repeat::Unsafe, call)
            .await
    }
}

/// Cannot come up: the policy of a transaction makes one attempt.
fn repeated() -> Error {
    Error::permanent("a call in a transaction was repeated")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::{Code, database::sql};

    /// Fails every call with an error of unknown effect, and counts; or hangs.
    #[derive(Debug, Clone, Default)]
    struct Failing {
        calls: Arc<AtomicU32>,
        hangs: bool,
    }

    impl Failing {
        async fn fail<T>(&self) -> Result<T> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Err(Error::temporary("cut off").maybe_applied())
        }
    }

    #[async_trait]
    impl Executor for Failing {
        async fn execute(&self, _: Statement) -> Result<u64> {
            self.fail().await
        }

        async fn query(&self, _: Statement) -> Result<Vec<Row>> {
            self.fail().await
        }
    }

    #[async_trait]
    impl Database for Failing {
        fn dialect(&self) -> Dialect {
            Dialect::Sqlite
        }

        async fn begin(&self, _: TxOptions) -> Result<Box<dyn Transaction>> {
            Ok(Box::new(self.clone()))
        }

        async fn ping(&self) -> Result<()> {
            self.fail().await
        }

        async fn close(&self) -> Result<()> {
            Ok(())
        }
    }

    #[async_trait]
    impl Transaction for Failing {
        async fn commit(self: Box<Self>) -> Result<()> {
            self.fail().await
        }

        async fn rollback(self: Box<Self>) -> Result<()> {
            self.fail().await
        }
    }

    fn guarded(hangs: bool) -> (GuardedDatabase, Arc<AtomicU32>) {
        let inner = Failing {
            hangs,
            ..Failing::default()
        };
        let calls = Arc::clone(&inner.calls);
        (
            GuardedDatabase::new(
                Arc::new(inner),
                Policy::new(Duration::from_secs(60), Retry::default()),
            ),
            calls,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_be_repeated_is_repeated() {
        let (db, calls) = guarded(false);
        let tries = |before: u32| calls.load(Ordering::Relaxed) - before;
        assert!(db.query(sql("-- why\nselect 1")).await.is_err());
        assert_eq!(tries(0), 3);
        assert!(
            db.query(sql("INSERT INTO t VALUES (1) RETURNING id"))
                .await
                .is_err()
        );
        assert_eq!(tries(3), 1);
        assert!(
            db.query(sql("WITH x AS (DELETE FROM t RETURNING id) SELECT * FROM x"))
                .await
                .is_err()
        );
        assert_eq!(tries(4), 1);
        assert!(db.execute(sql("UPDATE t SET a = a + 1")).await.is_err());
        assert_eq!(tries(5), 1);
        assert!(db.ping().await.is_err());
        assert_eq!(tries(6), 3);
        let tx = db.begin(TxOptions::default()).await.unwrap();
        assert!(tx.query(sql("SELECT 1")).await.is_err());
        assert!(tx.execute(sql("SELECT 1")).await.is_err());
        let error = tx.commit().await.unwrap_err();
        assert_eq!((tries(9), error.message()), (3, "cut off"));
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_ends_at_the_deadline() {
        let (db, _) = guarded(true);
        let tx = || db.begin(TxOptions::default());
        for error in [
            db.query(sql("SELECT 1")).await.map(drop),
            db.execute(sql("SELECT 1")).await.map(drop),
            db.ping().await,
            tx().await.unwrap().query(sql("SELECT 1")).await.map(drop),
            tx().await.unwrap().commit().await,
            tx().await.unwrap().rollback().await,
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.code(), Some(Code::Timeout));
            assert!(error.operation().unwrap().starts_with("database."));
        }
    }
}
