//! Servers, databases and runtimes for the tests.

use std::{future::Future, time::Duration};

use cqi_core::database::{Database, Executor, Row, TxOptions, sql};
use cqi_postgres::{PostgresDatabase, PostgresOptions};
use cqi_testkit::{
    fixture::{self, Kind, Options, Server},
    unique,
};

/// Runs a test on a runtime of its own; a test that hangs fails.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let output = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(180), test)
            .await
            .expect("the test hangs")
    });
    runtime.shutdown_background();
    output
}

/// How to reach an empty database on the shared server; `None` when there is no server.
pub(crate) fn shared() -> Option<PostgresOptions> {
    Some(empty_database(fixture::require(Kind::Postgres)?))
}

/// A server of the test's own and how to reach an empty database on it.
pub(crate) fn own(options: &Options) -> Option<(Server, PostgresOptions)> {
    let server = fixture::require_own(Kind::Postgres, options)?;
    let options = empty_database(&server);
    Some((server, options))
}

pub(crate) fn empty_database(server: &Server) -> PostgresOptions {
    let admin = PostgresOptions::from_url(server.url()).unwrap();
    let database = unique("db");
    run(async {
        let db = connect(&admin).await;
        db.execute(sql(format!("CREATE DATABASE {database}")))
            .await
            .unwrap();
        db.close().await.unwrap();
    });
    PostgresOptions {
        database,
        max_connections: 4,
        ..admin
    }
}

pub(crate) async fn connect(options: &PostgresOptions) -> PostgresDatabase {
    PostgresDatabase::connect(options.clone()).await.unwrap()
}

/// With one connection, which each call after another gets.
pub(crate) async fn connect_one(options: PostgresOptions) -> PostgresDatabase {
    connect(&PostgresOptions {
        max_connections: 1,
        ..options
    })
    .await
}

/// The only value of the only row.
pub(crate) async fn one<T: cqi_core::database::FromValue>(on: &dyn Executor, text: &'static str) -> T {
    let rows: Vec<Row> = on.query(sql(text)).await.unwrap();
    assert_eq!(rows.len(), 1, "{text}");
    rows[0].at(0).unwrap()
}

/// Waits until a query gives true.
pub(crate) async fn until(on: &dyn Executor, text: &'static str) {
    for _ in 0..500 {
        let met = match on.query(sql(text)).await {
            Ok(rows) => rows[0].at::<bool>(0).unwrap(),
            Err(_) => false,
        };
        if met {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never true: {text}");
}

/// Fails when somebody else's transaction is open on a connection of the pool: each borrower can begin one of its own.
pub(crate) async fn pool_is_clean(db: &PostgresDatabase, connections: usize) {
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(db.begin(TxOptions::default()).await.unwrap());
    }
    for tx in held {
        tx.rollback().await.unwrap();
    }
}
