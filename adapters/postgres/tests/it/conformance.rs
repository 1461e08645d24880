//! The suites of the ports.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{
    Result,
    database::{Database, DatabaseChecker},
    health::Checker,
};
use cqi_postgres::{PostgresDatabase, PostgresOptions};
use cqi_testkit::{
    conformance::{Profile, checker::CheckerHarness, database::DatabaseHarness},
    fixture::{self, Kind, Options, Server},
};

use crate::support;

/// A database of its own for each test.
struct Postgres(Option<PostgresOptions>);

impl Default for Postgres {
    fn default() -> Self {
        let missing = fixture::missing(Kind::Postgres).is_some();
        Self(
            (!missing)
                .then(support::shared)
                .flatten()
                .map(|options| PostgresOptions {
                    connection_timeout: Duration::from_secs(2),
                    ..options
                }),
        )
    }
}

#[async_trait]
impl DatabaseHarness for Postgres {
    async fn connect(&self) -> Result<Arc<dyn Database>> {
        let options = self.0.clone().unwrap_or_default();
        Ok(Arc::new(PostgresDatabase::connect(options).await?))
    }

    fn adapter(&self) -> &'static str {
        "PostgreSQL"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Postgres)
    }

    fn connections(&self) -> usize {
        4
    }
}

mod database {
    use super::*;

    cqi_testkit::database_suite!(Postgres::default());
}

/// DB-8: a server of its own for each test, which is stopped and started.
struct Health(Option<(Server, PostgresOptions)>);

impl Default for Health {
    fn default() -> Self {
        let missing = fixture::missing(Kind::Postgres).is_some();
        Self((!missing).then(|| support::own(&Options::default())).flatten())
    }
}

impl Health {
    fn server(&self) -> Result<&(Server, PostgresOptions)> {
        self.0
            .as_ref()
            .ok_or_else(|| cqi_core::Error::permanent("no server"))
    }
}

#[async_trait]
impl CheckerHarness for Health {
    async fn connect(&self) -> Result<Arc<dyn Checker>> {
        let database = PostgresDatabase::connect(self.server()?.1.clone()).await?;
        Ok(Arc::new(DatabaseChecker::new(Arc::new(database))))
    }

    fn adapter(&self) -> &'static str {
        "PostgreSQL"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Postgres)
    }

    async fn take_down(&self) -> Result<()> {
        self.server()?.0.stop();
        Ok(())
    }

    async fn bring_back(&self) -> Result<()> {
        self.server()?.0.start();
        Ok(())
    }
}

mod checker {
    use super::*;

    cqi_testkit::checker_suite!(Health::default());
}
