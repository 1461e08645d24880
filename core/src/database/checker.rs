//! Whether the database answers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;

use super::Database;
use crate::{Error, Result, health::Checker};

/// How long the database may take to answer (DB-8).
const LIMIT: Duration = Duration::from_secs(5);

/// A health check by `SELECT 1`, named `database`, with a limit of 5 seconds (DB-8, HLT-10).
#[derive(Debug, Clone)]
pub struct DatabaseChecker {
    database: Arc<dyn Database>,
}

impl DatabaseChecker {
    /// Checks `database`.
    pub fn new(database: Arc<dyn Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Checker for DatabaseChecker {
    fn name(&self) -> &str {
        "database"
    }

    async fn check(&self) -> Result<()> {
        timeout(LIMIT, self.database.ping())
            .await
            .unwrap_or_else(|_| Err(Error::timeout(LIMIT).with_operation("database.ping")))
    }
}

#[cfg(feature = "sqlite")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Code,
        database::{SqliteDatabase, SqliteOptions, TxOptions},
    };

    #[tokio::test]
    async fn db_8_up_down_and_up_again() {
        let options = SqliteOptions {
            acquire_timeout: Duration::from_secs(1),
            ..SqliteOptions::memory()
        };
        let database = Arc::new(SqliteDatabase::open(options).await.unwrap());
        let checker = DatabaseChecker::new(Arc::<SqliteDatabase>::clone(&database));
        assert_eq!(checker.name(), "database");
        checker.check().await.unwrap();
        let held = database.begin(TxOptions::default()).await.unwrap();
        assert_eq!(checker.check().await.unwrap_err().code(), Some(Code::Exhausted));
        drop(held);
        checker.check().await.unwrap();
    }

    #[tokio::test]
    async fn db_8_a_database_that_does_not_answer_fails_after_five_seconds() {
        let options = SqliteOptions {
            acquire_timeout: Duration::from_secs(3600),
            ..SqliteOptions::memory()
        };
        let database = Arc::new(SqliteDatabase::open(options).await.unwrap());
        let _held = database.begin(TxOptions::default()).await.unwrap();
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        let error = DatabaseChecker::new(Arc::<SqliteDatabase>::clone(&database))
            .check()
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(Code::Timeout));
        // Tokio's timers tick in milliseconds.
        assert_eq!(started.elapsed().as_secs(), LIMIT.as_secs());
    }
}
