//! How the embedded database is opened.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{Error, Result};

/// Where the database lives and how its connections are bounded.
///
/// ```
/// use cqi_core::database::SqliteOptions;
///
/// let options = SqliteOptions { max_connections: 8, ..SqliteOptions::file("positions.db") };
/// assert_eq!(SqliteOptions::from_url("sqlite://positions.db")?.path, options.path);
/// # Ok::<(), cqi_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The file, created if missing; its folder must exist. `None`: in memory, gone when the handle is.
    pub path: Option<PathBuf>,
    /// The most connections at a time, at least 1; each has a thread. Default 4 for files. In memory it is always 1.
    pub max_connections: u32,
    /// How long a call waits for a free connection; then it fails with `Temporary`/`Exhausted`. Default 5 s.
    pub acquire_timeout: Duration,
    /// How long one statement may take; then it is interrupted and fails with `Temporary`/`Timeout`. Default 30 s.
    pub statement_timeout: Duration,
    /// How long a statement waits for another one's write lock; then it fails with `Temporary`/`Conflict`. Default 5 s.
    pub busy_timeout: Duration,
    /// Statements that take at least this long are logged, as [`outline`](crate::database::outline) shows them (DB-10).
    /// Default 1 s.
    pub slow_threshold: Duration,
}

impl SqliteOptions {
    /// A database in a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            max_connections: 4,
            ..Self::memory()
        }
    }

    /// A database in memory, on one connection.
    pub fn memory() -> Self {
        Self {
            path: None,
            max_connections: 1,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(5),
            slow_threshold: Duration::from_secs(1),
        }
    }

    /// Reads `sqlite://positions.db`, `sqlite:///var/lib/positions.db`, `sqlite:positions.db` or `sqlite::memory:`.
    ///
    /// The path is taken as it stands, without percent decoding; a `?` is refused, as options have fields of their own.
    ///
    /// # Errors
    /// `InvalidInput` for another scheme, an empty path or a query part; never with the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let refuse = |why: &'static str| Err(Error::invalid_input(why));
        let Some(rest) = url.strip_prefix("sqlite:") else {
            return refuse("the URL of an SQLite database starts with sqlite:");
        };
        match rest.strip_prefix("//").unwrap_or(rest) {
            ":memory:" => Ok(Self::memory()),
            "" => refuse("the URL names no file; sqlite::memory: is the database in memory"),
            path if path.contains('?') => refuse("the URL of an SQLite database takes no options"),
            path => Ok(Self::file(path)),
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that is wrong.
    pub fn validate(&self) -> Result<()> {
        let why = if self.max_connections == 0 {
            "max_connections must be at least 1"
        } else if self.path.is_none() && self.max_connections > 1 {
            "a database in memory has exactly one connection"
        } else if self.acquire_timeout.is_zero() || self.statement_timeout.is_zero() {
            "acquire_timeout and statement_timeout must be more than 0"
        } else if i32::try_from(self.busy_timeout.as_millis()).is_err() {
            "busy_timeout must be less than 24 days"
        } else if self
            .path
            .as_deref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            "path must not be empty"
        } else if self.path.as_deref() == Some(Path::new(":memory:")) {
            "use SqliteOptions::memory() for a database in memory"
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(format!("sqlite: {why}")))
    }

    /// The driver's form. WAL lets readers and one writer work side by side; `synchronous=FULL` makes a commit
    /// survive a power cut. Statements are logged by this crate, so the driver's own log is off.
    pub(super) fn connect_options(&self) -> SqliteConnectOptions {
        let common = SqliteConnectOptions::new()
            .foreign_keys(true)
            .busy_timeout(self.busy_timeout)
            .disable_statement_logging();
        match &self.path {
            None => common.in_memory(true),
            // The leading ./ keeps names such as ":memory:" and "file:x" from meaning something else to SQLite.
            Some(path) => common
                .filename(Path::new(".").join(path))
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_db_5_urls_name_a_file_or_memory() {
        for (url, path) in [
            ("sqlite://positions.db", Some("positions.db")),
            ("sqlite:data/positions.db", Some("data/positions.db")),
            ("sqlite:///var/lib/a b.db", Some("/var/lib/a b.db")),
            ("sqlite::memory:", None),
            ("sqlite://:memory:", None),
        ] {
            let options = SqliteOptions::from_url(url).unwrap();
            assert_eq!(options.path.as_deref(), path.map(Path::new), "{url}");
            options.validate().unwrap();
        }
        for bad in [
            "",
            "sqlite",
            "sqlite:",
            "sqlite://",
            "postgres://x",
            "sqlite://a.db?mode=ro",
        ] {
            let error = SqliteOptions::from_url(bad).unwrap_err();
            assert!(error.is_invalid_input(), "{bad}");
        }
    }

    #[test]
    fn c_11_a_wrong_url_is_not_repeated() {
        for bad in [
            "postgres://app:canary@db/positions",
            "canary",
            "sqlite://a.db?key=canary",
        ] {
            let error = SqliteOptions::from_url(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    #[test]
    fn wrong_numbers_are_refused() {
        let file = SqliteOptions::file("a.db");
        for bad in [
            SqliteOptions {
                max_connections: 0,
                ..file.clone()
            },
            SqliteOptions {
                max_connections: 2,
                ..SqliteOptions::memory()
            },
            SqliteOptions {
                statement_timeout: Duration::ZERO,
                ..file.clone()
            },
            SqliteOptions {
                acquire_timeout: Duration::ZERO,
                ..file.clone()
            },
            SqliteOptions {
                busy_timeout: Duration::MAX,
                ..file
            },
            SqliteOptions::file(""),
            SqliteOptions::file(":memory:"),
        ] {
            assert!(bad.validate().unwrap_err().is_invalid_input(), "{bad:?}");
        }
    }
}
