//! Bare sqlx, with the settings that the port has.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use sqlx::{
    ConnectOptions as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{CONNECTIONS, Db, Open, ROWS, SQL};

pub(super) struct Sqlx(SqlitePool);

impl Open for Sqlx {
    async fn open(file: Option<&Path>, ping: bool, body: Bytes) -> Self {
        let common = SqliteConnectOptions::new()
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let (options, connections) = match file {
            Some(path) => (
                common
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full),
                CONNECTIONS,
            ),
            None => (common.in_memory(true), 1),
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(ping)
            .connect_with(options)
            .await
            .expect("a database");
        for table in SQL.create {
            sqlx::query(*table).execute(&pool).await.expect("a new table");
        }
        let fill = sqlx::query(SQL.fill).bind(body.to_vec()).bind(ROWS);
        fill.execute(&pool).await.expect("rows");
        Self(pool)
    }
}

impl Db for Sqlx {
    async fn select(&self, id: i64) -> Bytes {
        let row = sqlx::query_as(SQL.select).bind(id).fetch_one(&self.0).await;
        let (_, _, body): (i64, i64, Vec<u8>) = row.expect("a row");
        body.into()
    }

    async fn insert(&self, body: Bytes) -> i64 {
        let row = sqlx::query_scalar(SQL.insert)
            .bind(Vec::from(body))
            .fetch_one(&self.0)
            .await;
        row.expect("an id")
    }

    async fn transaction(&self, id: i64, body: Bytes) {
        let mut tx = self.0.begin_with("BEGIN IMMEDIATE").await.expect("a transaction");
        let read = sqlx::query_scalar(SQL.read).bind(id).fetch_one(&mut *tx).await;
        let _: i64 = read.expect("a number");
        sqlx::query(SQL.update)
            .bind(id)
            .execute(&mut *tx)
            .await
            .expect("a change");
        let added = sqlx::query(SQL.outbox)
            .bind(Vec::from(body))
            .execute(&mut *tx)
            .await;
        assert_eq!(added.expect("a row").rows_affected(), 1);
        tx.commit().await.expect("a commit");
    }

    async fn counts(&self) -> (i64, i64, i64) {
        sqlx::query_as(SQL.counts)
            .fetch_one(&self.0)
            .await
            .expect("counts")
    }
}
