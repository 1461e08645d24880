//! Bare sqlx.

use bytes::Bytes;
use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{CONNECTIONS, Db, FIRST, ROWS, SETTLE, SQL};
use crate::measure::payload;

pub(super) struct Sqlx(PgPool);

impl Sqlx {
    pub(super) async fn open(url: &str, ping: bool) -> Self {
        let options: PgConnectOptions = url.parse().expect("a valid URL");
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(ping)
            .connect_with(options.disable_statement_logging())
            .await;
        Self(pool.expect("a database"))
    }

    /// Makes new tables with `ROWS` rows.
    pub(super) async fn prepare(&self, size: usize) {
        for statement in SQL.create {
            self.run(statement).await;
        }
        let fill = sqlx::query(SQL.fill)
            .bind(Vec::from(payload(FIRST, size)))
            .bind(ROWS);
        fill.execute(&self.0).await.expect("rows");
        for statement in SETTLE {
            self.run(statement).await;
        }
    }

    pub(super) async fn run(&self, statement: &'static str) {
        let ran = sqlx::query(statement).execute(&self.0).await;
        ran.expect(statement);
    }
}

impl Db for Sqlx {
    async fn select(&self, id: i64) -> Bytes {
        let row = sqlx::query_as(SQL.select).bind(id).fetch_one(&self.0).await;
        let (_, _, body): (i64, i64, Vec<u8>) = row.expect("a row");
        body.into()
    }

    async fn insert(&self, body: Bytes) -> i64 {
        let insert = sqlx::query_scalar(SQL.insert).bind(Vec::from(body));
        insert.fetch_one(&self.0).await.expect("an id")
    }

    async fn transaction(&self, id: i64, body: Bytes) {
        let mut tx = self.0.begin().await.expect("a transaction");
        let read = sqlx::query_scalar(SQL.read).bind(id).fetch_one(&mut *tx).await;
        let _: i64 = read.expect("a number");
        let changed = sqlx::query(SQL.update).bind(id).execute(&mut *tx).await;
        changed.expect("a change");
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
