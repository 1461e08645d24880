//! Migrations: numbered SQL that brings a database's tables to where the program needs them.

use std::{collections::BTreeMap, path::Path, time::Duration};

use jiff::Timestamp;

use super::{Database, Dialect, Executor, TxOptions, sql};
use crate::{
    Code, Error, Result,
    policy::{Retry, RetryOn, run_with_data},
};

/// Portable; the time is text in UTC.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS cqi_migrations (
    version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL)";

/// PostgreSQL's lock for all who migrate a database; it ends with the transaction, however that ends. The number is the
/// checksum of the table's name.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1277804876526101616)";

/// One step, forth and back.
#[allow(clippy::exhaustive_structs)] // made by hand in lists
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number; the first is 1, and none is left out.
    pub version: i64,
    /// What it does, for humans.
    pub name: String,
    /// SQL that applies it; may hold several statements.
    pub up: String,
    /// SQL that takes it back, if that is possible.
    pub down: Option<String>,
}

/// A migration and whether it is applied.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// When it was applied; `None` while it is pending.
    pub applied_at: Option<Timestamp>,
}

/// A checked list of migrations, in order.
///
/// What is applied is recorded in the table `cqi_migrations` with a checksum: FNV-1a of 64 bits over the up-SQL with
/// line ends made `\n`, as a guard against mistakes, not against malice. Each migration runs in a transaction of its
/// own together with its record, so it is applied whole or not at all, and earlier ones stay.
///
/// Any number of processes may start at once: a transaction takes a lock and reads the record anew, so one of them runs
/// each migration and the others go on. On SQLite that is the only write lock, on PostgreSQL an advisory lock of the
/// transaction. The database's limit for a statement holds for a whole migration, and for waiting for another process.
/// What cannot run in a transaction (`CREATE INDEX CONCURRENTLY`) is no migration.
///
/// ```
/// # use cqi_core::{Result, database::{Database, Migration, Migrations}};
/// # async fn start(db: &dyn Database) -> Result<()> {
/// let migrations = Migrations::new([Migration {
///     version: 1,
///     name: "assets".into(),
///     up: "CREATE TABLE assets (id TEXT PRIMARY KEY, name TEXT NOT NULL)".into(),
///     down: Some("DROP TABLE assets".into()),
/// }])?;
/// migrations.apply(db).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Migrations(Vec<Migration>);

impl Migrations {
    /// Checks and sorts a list.
    ///
    /// # Errors
    /// `InvalidInput` naming the version that is there twice or missing (ML-MIG-5).
    pub fn new(list: impl IntoIterator<Item = Migration>) -> Result<Self> {
        let mut list: Vec<_> = list.into_iter().collect();
        list.sort_by_key(|migration| migration.version);
        for (expected, migration) in (1..).zip(&list) {
            let version = migration.version;
            if version != expected {
                let why = if version < expected {
                    "is there twice or below 1"
                } else {
                    "does not follow the one before"
                };
                return Err(Error::invalid_input(format!("migration {version} {why}")));
            }
        }
        Ok(Self(list))
    }

    /// Reads a folder of `{version}_{name}.up.sql` and `{version}_{name}.down.sql` (ML-MIG-2). Other files than `.sql`
    /// are left alone.
    ///
    /// # Errors
    /// `InvalidInput` for a folder or file that cannot be read, a name of another form, a down-file without its up-file,
    /// or what [`Migrations::new`] refuses.
    pub async fn from_dir(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let unreadable = |error: std::io::Error, path: &Path| {
            Error::invalid_input("migrations cannot be read")
                .with_context("path", path.display())
                .with_source(error)
        };
        let mut files = tokio::fs::read_dir(folder)
            .await
            .map_err(|error| unreadable(error, folder))?;
        let mut parts: BTreeMap<(i64, String), [Option<String>; 2]> = BTreeMap::new();
        while let Some(file) = files
            .next_entry()
            .await
            .map_err(|error| unreadable(error, folder))?
        {
            let (path, name) = (file.path(), file.file_name());
            let Some(name) = name.to_str().filter(|name| name.ends_with(".sql")) else {
                continue;
            };
            let (key, part) = parse(name)?;
            let text = tokio::fs::read_to_string(&path)
                .await
                .map_err(|error| unreadable(error, &path))?;
            if parts.entry(key).or_default()[part].replace(text).is_some() {
                let why = "a migration is there twice, with another number of zeros";
                return Err(Error::invalid_input(why).with_context("file", crate::name::shown(name)));
            }
        }
        let complete = parts.into_iter().map(|((version, name), [up, down])| match up {
            Some(up) => Ok(Migration {
                version,
                name,
                up,
                down,
            }),
            None => Err(Error::invalid_input(format!(
                "migration {version}_{name} has no .up.sql"
            ))),
        });
        Self::new(complete.collect::<Result<Vec<_>>>()?)
    }

    /// Applies what is pending, in order, and returns how many that were.
    ///
    /// # Errors
    /// `Permanent`/`FailedPrecondition` before anything runs when an applied migration was edited or is missing here
    /// (S-07); else the error of the migration that failed, which it names.
    pub async fn apply(&self, database: &dyn Database) -> Result<usize> {
        let mut count = 0;
        while self.step(database, Direction::Up).await? {
            count += 1;
        }
        Ok(count)
    }

    /// Takes back the newest `steps` migrations, newest first, and returns how many that were: fewer when fewer are
    /// applied.
    ///
    /// # Errors
    /// As [`Migrations::apply`]; also before anything runs when one of them has no down-SQL.
    pub async fn revert(&self, database: &dyn Database, steps: usize) -> Result<usize> {
        let applied = self
            .status(database)
            .await?
            .into_iter()
            .filter(|status| status.applied_at.is_some())
            .count();
        let steps = steps.min(applied);
        if let Some(lacking) = self.0[applied - steps..applied]
            .iter()
            .find(|migration| migration.down.is_none())
        {
            return Err(refused(format!("migration {} has no down-SQL", label(lacking))));
        }
        let mut count = 0;
        while count < steps && self.step(database, Direction::Down).await? {
            count += 1;
        }
        Ok(count)
    }

    /// Every migration and when it was applied.
    ///
    /// # Errors
    /// As [`Migrations::apply`], when what is applied does not fit this list.
    pub async fn status(&self, database: &dyn Database) -> Result<Vec<MigrationStatus>> {
        match make_table(database, database.dialect()).await {
            // Made by somebody else in this moment.
            Err(error) if error.code() == Some(Code::AlreadyExists) => {}
            other => other?,
        }
        let applied = self.applied(database).await?;
        Ok(self
            .0
            .iter()
            .enumerate()
            .map(|(at, migration)| MigrationStatus {
                version: migration.version,
                name: migration.name.clone(),
                applied_at: applied.get(at).copied(),
            })
            .collect())
    }

    /// One migration in one transaction; `false` when there is none left. Waits for another process that migrates.
    async fn step(&self, database: &dyn Database, direction: Direction) -> Result<bool> {
        let patient = Retry {
            attempts: 10,
            initial: Duration::from_millis(100),
            on: RetryOn::func(|error| error.code() == Some(Code::Conflict) && !error.may_have_applied()),
            ..Retry::default()
        };
        run_with_data(&patient, || async move {
            let tx = database.begin(TxOptions::default()).await?;
            match self.step_in(&*tx, database.dialect(), direction).await {
                Ok(went) => tx.commit().await.map(|()| went),
                Err(error) => {
                    if let Err(failed) = tx.rollback().await {
                        tracing::warn!(error = %error.chain(), rollback_error = %failed.chain(), "rolling back failed");
                    }
                    Err(error)
                }
            }
        })
        .await
    }

    async fn step_in(&self, tx: &dyn Executor, dialect: Dialect, direction: Direction) -> Result<bool> {
        if dialect == Dialect::Postgres {
            // Each statement has to see what others have committed since the transaction began.
            tx.execute(sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
                .await?;
            let locked = tx.execute(sql(LOCK)).await;
            locked.map_err(|error| error.wrap("waiting for another process that migrates"))?;
        }
        let made = make_table(tx, dialect).await;
        made.map_err(|error| match error.code() {
            // Made by `status` of another process in this moment; the next attempt finds it.
            Some(Code::AlreadyExists) => error_of_a_race(error),
            _ => error,
        })?;
        let applied = self.applied(tx).await?.len();
        let (next, text, record) = match direction {
            Direction::Up => {
                let Some(next) = self.0.get(applied) else {
                    return Ok(false);
                };
                let insert = "INSERT INTO cqi_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";
                let record = sql(insert)
                    .bind(next.version)
                    .bind(&next.name)
                    .bind(checksum(&next.up));
                (next, &next.up, record.bind(Timestamp::now().to_string()))
            }
            Direction::Down => {
                let Some(next) = applied.checked_sub(1).and_then(|at| self.0.get(at)) else {
                    return Ok(false);
                };
                let down = next
                    .down
                    .as_ref()
                    .ok_or_else(|| refused(format!("migration {} has no down-SQL", label(next))))?;
                (
                    next,
                    down,
                    sql("DELETE FROM cqi_migrations WHERE version = $1").bind(next.version),
                )
            }
        };
        let run = async {
            tx.execute(sql(text.clone())).await?;
            tx.execute(record).await
        };
        run.await
            .map_err(|error| error.wrap(format!("migration {} failed", label(next))))?;
        tracing::info!(version = next.version, name = next.name, ?direction, "migrated");
        Ok(true)
    }

    /// When each applied migration was applied, after checking that they are the first ones of this list, unchanged.
    async fn applied(&self, on: &dyn Executor) -> Result<Vec<Timestamp>> {
        let rows = on
            .query(sql(
                "SELECT version, checksum, applied_at FROM cqi_migrations ORDER BY version",
            ))
            .await?;
        let mut times = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let version: i64 = row.get("version")?;
            let Some(migration) = self.0.get(at).filter(|migration| migration.version == version) else {
                return Err(refused(format!(
                    "migration {version} is applied but not in the list, or one before it is not"
                )));
            };
            if row.get::<String>("checksum")? != checksum(&migration.up) {
                return Err(refused(format!(
                    "migration {} was changed after it was applied",
                    label(migration)
                )));
            }
            times.push(row.get("applied_at")?);
        }
        Ok(times)
    }
}

/// Makes the table of what is applied, unless it is there.
async fn make_table(on: &dyn Executor, dialect: Dialect) -> Result<()> {
    if dialect == Dialect::Postgres {
        // A table is made in the first schema of the search path, but found in any: a schema that is made later, with the
        // user's name, must not get a second one.
        let found = on
            .query(sql("SELECT to_regclass('cqi_migrations') IS NOT NULL AS found"))
            .await?;
        if found
            .first()
            .is_some_and(|row| matches!(row.get("found"), Ok(true)))
        {
            return Ok(());
        }
    }
    on.execute(sql(TABLE)).await.map(drop)
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Up,
    Down,
}

fn label(migration: &Migration) -> String {
    format!("{}_{}", migration.version, migration.name)
}

fn error_of_a_race(error: Error) -> Error {
    Error::temporary("another process made the table of migrations")
        .with_code(Code::Conflict)
        .with_source(error)
}

fn refused(why: String) -> Error {
    Error::permanent(why).with_code(Code::FailedPrecondition)
}

/// `000001_assets.up.sql` is version 1, name `assets`, part 0 (up).
fn parse(file: &str) -> Result<((i64, String), usize)> {
    let read = || {
        let (stem, part) = match file.strip_suffix(".up.sql") {
            Some(stem) => (stem, 0),
            None => (file.strip_suffix(".down.sql")?, 1),
        };
        let (version, name) = stem.split_once('_').filter(|(_, name)| !name.is_empty())?;
        Some(((version.parse().ok()?, name.to_owned()), part))
    };
    read().ok_or_else(|| {
        Error::invalid_input("migrations are named {version}_{name}.up.sql or .down.sql")
            .with_context("file", crate::name::shown(file))
    })
}

/// FNV-1a, 64 bits, in hexadecimal; a checkout with `\r\n` gives the same.
fn checksum(text: &str) -> String {
    let bytes = text
        .bytes()
        .enumerate()
        .filter(|(at, byte)| *byte != b'\r' || text.as_bytes().get(at + 1) != Some(&b'\n'));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, (_, byte)| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;
