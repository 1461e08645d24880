//! Bare tokio-postgres, under the pool that is commonly used with it.

use bytes::Bytes;
use deadpool_postgres::{Manager, Object, Pool};
use tokio_postgres::NoTls;

use super::{CONNECTIONS, Db, SQL};

pub(super) struct TokioPostgres(Pool);

impl TokioPostgres {
    pub(super) fn open(url: &str) -> Self {
        let manager = Manager::new(url.parse().expect("a valid URL"), NoTls);
        let pool = Pool::builder(manager).max_size(CONNECTIONS as usize).build();
        Self(pool.expect("a pool"))
    }

    async fn connection(&self) -> Object {
        self.0.get().await.expect("a connection")
    }
}

impl Db for TokioPostgres {
    async fn select(&self, id: i64) -> Bytes {
        let connection = self.connection().await;
        let select = connection.prepare_cached(SQL.select).await.expect("a statement");
        let row = connection.query_one(&select, &[&id]).await.expect("a row");
        row.get::<_, Vec<u8>>(2).into()
    }

    async fn insert(&self, body: Bytes) -> i64 {
        let connection = self.connection().await;
        let insert = connection.prepare_cached(SQL.insert).await.expect("a statement");
        let row = connection.query_one(&insert, &[&&body[..]]).await;
        row.expect("a row").get(0)
    }

    async fn transaction(&self, id: i64, body: Bytes) {
        let mut connection = self.connection().await;
        let tx = connection.transaction().await.expect("a transaction");
        let read = tx.prepare_cached(SQL.read).await.expect("a statement");
        let row = tx.query_one(&read, &[&id]).await.expect("a row");
        let _: i64 = row.get(0);
        let update = tx.prepare_cached(SQL.update).await.expect("a statement");
        tx.execute(&update, &[&id]).await.expect("a change");
        let outbox = tx.prepare_cached(SQL.outbox).await.expect("a statement");
        let added = tx.execute(&outbox, &[&&body[..]]).await;
        assert_eq!(added.expect("a row"), 1);
        tx.commit().await.expect("a commit");
    }

    async fn counts(&self) -> (i64, i64, i64) {
        let row = self.connection().await.query_one(SQL.counts, &[]).await;
        let row = row.expect("counts");
        (row.get(0), row.get(1), row.get(2))
    }
}
