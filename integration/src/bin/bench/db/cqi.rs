//! The database port, as a repository uses it.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use cqi_core::database::{Database, DatabaseExt as _, ExecutorExt as _, SqliteDatabase, SqliteOptions, sql};

use super::{CONNECTIONS, COUNTS, CREATE, Db, FILL, INSERT, OUTBOX, READ, ROWS, SELECT, UPDATE};

pub(super) struct Cqi(Arc<dyn Database>);

impl Db for Cqi {
    async fn open(file: Option<&Path>, _: bool, body: Bytes) -> Self {
        let options = match file {
            Some(path) => SqliteOptions {
                max_connections: CONNECTIONS,
                ..SqliteOptions::file(path)
            },
            None => SqliteOptions::memory(),
        };
        let db = SqliteDatabase::open(options).await.expect("a database");
        let db: Arc<dyn Database> = Arc::new(db);
        for table in CREATE {
            db.execute(sql(table)).await.expect("a new table");
        }
        db.execute(sql(FILL).bind(body).bind(ROWS)).await.expect("rows");
        Self(db)
    }

    async fn select(&self, id: i64) -> Bytes {
        let row = self.0.query_row(sql(SELECT).bind(id)).await.expect("a row");
        row.at(2).expect("a body")
    }

    async fn insert(&self, body: Bytes) -> i64 {
        let row = self.0.query_row(sql(INSERT).bind(body)).await.expect("a row");
        row.at(0).expect("an id")
    }

    async fn transaction(&self, id: i64, body: Bytes) {
        let work = self.0.with_transaction(move |tx| {
            Box::pin(async move {
                let _: i64 = tx.query_row(sql(READ).bind(id)).await?.at(0)?;
                tx.execute(sql(UPDATE).bind(id)).await?;
                tx.execute(sql(OUTBOX).bind(body)).await
            })
        });
        assert_eq!(work.await.expect("a commit"), 1);
    }

    async fn counts(&self) -> (i64, i64, i64) {
        let row = self.0.query_row(sql(COUNTS)).await.expect("a row");
        let at = |column| row.at(column).expect("a count");
        (at(0), at(1), at(2))
    }
}
