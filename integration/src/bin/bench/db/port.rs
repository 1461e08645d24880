//! The database port, as a repository uses it.

use std::sync::Arc;

use bytes::Bytes;
use cqi_core::database::{Database, DatabaseExt as _, ExecutorExt as _, sql};

use super::{Db, Sql};

pub(super) struct Port {
    pub(super) db: Arc<dyn Database>,
    pub(super) sql: &'static Sql,
}

impl Db for Port {
    async fn select(&self, id: i64) -> Bytes {
        let row = self.db.query_row(sql(self.sql.select).bind(id)).await;
        row.expect("a row").at(2).expect("a body")
    }

    async fn insert(&self, body: Bytes) -> i64 {
        let row = self.db.query_row(sql(self.sql.insert).bind(body)).await;
        row.expect("a row").at(0).expect("an id")
    }

    async fn transaction(&self, id: i64, body: Bytes) {
        let statements = self.sql;
        let work = self.db.with_transaction(move |tx| {
            Box::pin(async move {
                let _: i64 = tx.query_row(sql(statements.read).bind(id)).await?.at(0)?;
                tx.execute(sql(statements.update).bind(id)).await?;
                tx.execute(sql(statements.outbox).bind(body)).await
            })
        });
        assert_eq!(work.await.expect("a commit"), 1);
    }

    async fn counts(&self) -> (i64, i64, i64) {
        let row = self.db.query_row(sql(self.sql.counts)).await.expect("a row");
        let at = |column| row.at(column).expect("a count");
        (at(0), at(1), at(2))
    }
}
