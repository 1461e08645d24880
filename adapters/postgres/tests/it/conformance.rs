//! The suites of the ports.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{Result, database::Database};
use cqi_postgres::{PostgresDatabase, PostgresOptions};
use cqi_testkit::conformance::{Profile, database::DatabaseHarness};

use crate::support;

/// A database of its own for each test.
struct Postgres(PostgresOptions);

impl Default for Postgres {
    fn default() -> Self {
        Self(PostgresOptions {
            max_connections: 4,
            connection_timeout: std::time::Duration::from_secs(2),
            ..support::fresh_database()
        })
    }
}

#[async_trait]
impl DatabaseHarness for Postgres {
    async fn connect(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(PostgresDatabase::connect(self.0.clone()).await?))
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn connections(&self) -> usize {
        4
    }
}

mod database {
    use super::*;

    cqi_testkit::database_suite!(Postgres::default());
}
