//! What the cases of this suite are written with.

use std::{fmt::Debug, sync::Arc};

use cqi_core::database::{Database, Dialect, Executor, FromValue, ToValue, TxOptions, sql};

use super::DatabaseHarness;
use crate::{
    conformance::{Failure, Outcome, Profile, ensure, ensure_eq},
    unique,
};

/// A database, a name for a table nobody else uses, and the profile.
pub(super) struct Scene {
    pub(super) db: Arc<dyn Database>,
    pub(super) table: String,
    pub(super) profile: Profile,
}

impl Scene {
    pub(super) async fn new<H: DatabaseHarness>(h: &H) -> Result<Self, Failure> {
        Ok(Self {
            db: h.connect().await?,
            table: unique("t"),
            profile: h.profile(),
        })
    }

    /// A scene with a table of `id BIGINT PRIMARY KEY, n BIGINT NOT NULL`.
    pub(super) async fn with_table<H: DatabaseHarness>(h: &H) -> Result<Self, Failure> {
        let scene = Self::new(h).await?;
        scene.create("id BIGINT PRIMARY KEY, n BIGINT NOT NULL").await?;
        Ok(scene)
    }

    pub(super) async fn create(&self, columns: &str) -> Outcome {
        self.db
            .execute(sql(format!("CREATE TABLE {} ({columns})", self.table)))
            .await?;
        Ok(())
    }

    /// A statement on the table: `{t}` stands for its name.
    pub(super) fn sql(&self, text: &str) -> cqi_core::database::Statement {
        sql(text.replace("{t}", &self.table))
    }

    pub(super) async fn insert(&self, on: &dyn Executor, id: i64, n: i64) -> cqi_core::Result<u64> {
        on.execute(
            self.sql("INSERT INTO {t} (id, n) VALUES ($1, $2)")
                .bind(id)
                .bind(n),
        )
        .await
    }

    /// The ids in the table, in order.
    pub(super) async fn ids(&self, on: &dyn Executor) -> Result<Vec<i64>, Failure> {
        let rows = on.query(self.sql("SELECT id FROM {t} ORDER BY id")).await?;
        Ok(rows.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?)
    }

    /// Checks the ids, also by a handle of its own.
    pub(super) async fn holds<H: DatabaseHarness>(&self, h: &H, ids: &[i64], when: &str) -> Outcome {
        ensure_eq!(self.ids(&*self.db).await?, ids, "ids {when}");
        let other = h.connect().await?;
        ensure_eq!(
            self.ids(&*other).await?,
            ids,
            "ids {when}, seen by another handle"
        );
        Ok(())
    }

    /// Checks that no borrower of a connection stands in somebody else's transaction: each can begin one of its own, and
    /// what it commits is there for others.
    pub(super) async fn pool_is_clean<H: DatabaseHarness>(&self, h: &H, from: i64) -> Outcome {
        let rounds = i64::try_from(h.connections()).unwrap_or(1) * 2;
        for id in from..from + rounds {
            // Outside of any transaction of ours: lasting at once, unless it fell into a foreign one.
            self.insert(&*self.db, id * 2, 0).await?;
            let tx = self.db.begin(TxOptions::default()).await?;
            self.insert(&*tx, id * 2 + 1, 0).await?;
            tx.commit().await?;
        }
        let other = h.connect().await?;
        let seen = self.ids(&*other).await?;
        for id in from * 2..(from + rounds) * 2 {
            ensure!(
                seen.contains(&id),
                "row {id} was written inside a foreign transaction"
            );
        }
        Ok(())
    }

    /// Writes each value to a column of this type and expects the same back.
    pub(super) async fn round_trip<T>(&self, column: Column, values: impl IntoIterator<Item = T>) -> Outcome
    where
        T: ToValue + FromValue + PartialEq + Debug + Clone,
    {
        let table = unique("v");
        let column = column.of(self.db.dialect());
        self.db
            .execute(sql(format!(
                "CREATE TABLE {table} (id BIGINT PRIMARY KEY, v {column})"
            )))
            .await?;
        for (id, value) in (0_i64..).zip(values) {
            let insert = sql(format!("INSERT INTO {table} (id, v) VALUES ($1, $2)"));
            self.db.execute(insert.bind(id).bind(value.clone())).await?;
            let select = sql(format!("SELECT v FROM {table} WHERE id = $1")).bind(id);
            let rows = self.db.query(select).await?;
            ensure_eq!(rows.len(), 1, "rows of one id");
            ensure_eq!(
                rows[0].get::<T>("v")?,
                value,
                "a value in a column of type {column}"
            );
            ensure_eq!(rows[0].get::<Option<T>>("v")?, Some(value), "an optional value");
        }
        Ok(())
    }
}

/// A column type, written as each dialect writes it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    Bool,
    Int,
    Float,
    Decimal,
    Text,
    Bytes,
    Timestamp,
    Uuid,
    Json,
}

impl Column {
    pub(super) const ALL: [Self; 9] = [
        Self::Bool,
        Self::Int,
        Self::Float,
        Self::Decimal,
        Self::Text,
        Self::Bytes,
        Self::Timestamp,
        Self::Uuid,
        Self::Json,
    ];

    pub(super) fn of(self, dialect: Dialect) -> &'static str {
        let sqlite = dialect == Dialect::Sqlite;
        match self {
            Self::Bool => "BOOLEAN",
            Self::Int => "BIGINT",
            Self::Float => "DOUBLE PRECISION",
            Self::Text => "TEXT",
            Self::Bytes if sqlite => "BLOB",
            Self::Bytes => "BYTEA",
            Self::Decimal | Self::Timestamp | Self::Uuid | Self::Json if sqlite => "TEXT",
            Self::Decimal => "NUMERIC",
            Self::Timestamp => "TIMESTAMPTZ",
            Self::Uuid => "UUID",
            Self::Json => "JSONB",
        }
    }
}
