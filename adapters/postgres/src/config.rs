//! Where the server is and how its connections are bounded.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cqi_core::{
    Error, Result,
    config::{DatabaseConfig, is_loopback},
    secret::Secret,
};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::url;

/// How the connection is protected.
#[allow(clippy::exhaustive_enums)] // as libpq's, without the two modes that fall back to plain text in silence
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// Encrypted; whoever answers is trusted.
    Require,
    /// Encrypted; the certificate must be signed by a known authority.
    VerifyCa,
    /// Encrypted; the certificate must be signed by a known authority and name the host.
    VerifyFull,
}

/// Encryption of the connection.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Default `None`: [`TlsMode::Disable`] for a Unix socket and loopback, [`TlsMode::VerifyFull`] for everything else.
    pub mode: Option<TlsMode>,
    /// A file of trusted authorities in PEM. Default `None`: those that browsers trust.
    pub root_cert: Option<PathBuf>,
    /// The client's certificate in PEM, for servers that ask for one.
    pub client_cert: Option<PathBuf>,
    /// The key of the client's certificate in PEM.
    pub client_key: Option<PathBuf>,
}

/// Where the server is and how its connections are bounded. Nothing is taken from the environment (`PGHOST`, …) or from
/// a password file.
///
/// ```
/// use cqi_postgres::PostgresOptions;
///
/// let options = PostgresOptions {
///     max_connections: 8,
///     ..PostgresOptions::from_url("postgres://app:secret@db.example.org/positions?sslmode=verify-full")?
/// };
/// assert_eq!((options.host.as_str(), options.port), ("db.example.org", 5432));
/// # Ok::<(), cqi_core::Error>(())
/// ```
#[allow(clippy::exhaustive_structs)] // made by hand with `..Default::default()`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// The server's host name or address, or the folder of its Unix socket (begins with `/`). Default `localhost`.
    pub host: String,
    /// The server's port. Default 5432.
    pub port: u16,
    /// The database's name. No default.
    pub database: String,
    /// The user. Default `postgres`.
    pub user: String,
    /// The password. Default empty.
    pub password: Secret,
    /// Encryption.
    pub tls: TlsOptions,
    /// What the server's `pg_stat_activity` shows. Default `cqi`.
    pub application_name: String,
    /// The most connections at a time, at least 1. Default 25.
    pub max_connections: u32,
    /// The connections that are kept open when idle; at most `max_connections`. Default 0.
    pub min_connections: u32,
    /// How long a call may wait for a connection, connecting included; then it fails with `Temporary`/`Exhausted`, or
    /// `Unavailable` when the server did not answer. Default 5 s.
    pub connection_timeout: Duration,
    /// How long one statement may run; then the server cancels it and it fails with `Temporary`/`Timeout`. A server that
    /// does not answer within half a second more is left, and the connection closed. Default 30 s.
    pub statement_timeout: Duration,
    /// How long a statement waits for another transaction's lock; then it fails with `Temporary`/`Conflict`. Default
    /// `None`: as long as `statement_timeout` allows.
    pub lock_timeout: Option<Duration>,
    /// After which time without a statement the server ends an open transaction, so that it cannot hold its locks for
    /// ever. Default 60 s.
    pub idle_in_transaction_timeout: Duration,
    /// After which time an idle connection above `min_connections` is closed. Default 10 min.
    pub idle_timeout: Duration,
    /// After which time any connection is replaced. Default 30 min.
    pub max_lifetime: Duration,
    /// Statements that take at least this long are logged, as [`outline`](cqi_core::database::outline) shows them (DB-10).
    /// Default 1 s.
    pub slow_threshold: Duration,
    /// Whether a server that does not take writes, a standby for example, counts as unavailable. Default true. In a URL:
    /// `target_session_attrs=read-write` or `any`.
    pub require_writable: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 5432,
            database: String::new(),
            user: "postgres".into(),
            password: Secret::default(),
            tls: TlsOptions::default(),
            application_name: "cqi".into(),
            max_connections: 25,
            min_connections: 0,
            connection_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: None,
            idle_in_transaction_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(1800),
            slow_threshold: Duration::from_secs(1),
            require_writable: true,
        }
    }
}

impl TryFrom<&DatabaseConfig> for PostgresOptions {
    type Error = Error;

    /// What the URL leaves out is taken from the fields.
    fn try_from(config: &DatabaseConfig) -> Result<Self> {
        let mut options = Self {
            host: config.host.clone(),
            port: config.port,
            database: config.database.clone(),
            user: config.user.clone(),
            password: config.password.clone(),
            max_connections: config.max_connections,
            min_connections: config.min_connections,
            connection_timeout: config.connection_timeout,
            statement_timeout: config.statement_timeout,
            idle_timeout: config.idle_timeout,
            max_lifetime: config.max_lifetime,
            slow_threshold: config.slow_query_threshold,
            ..Self::default()
        };
        if !config.url.is_empty() {
            url::read(config.url.expose(), &mut options)?;
        }
        options.validate()?;
        Ok(options)
    }
}

impl PostgresOptions {
    /// Reads `postgres://user:password@host:port/database?sslmode=verify-full`; every part but the scheme may be left
    /// out. User, password, host and database may be percent-encoded.
    ///
    /// Options are `sslmode` (`disable`, `require`, `verify-ca`, `verify-full`), `sslrootcert`, `sslcert`, `sslkey`,
    /// `application_name`, `host` (a socket's folder) and `target_session_attrs` (`any`, `read-write`).
    ///
    /// # Errors
    /// `InvalidInput` for another scheme, another option or a value that is none; never with the password in it.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut options = Self::default();
        url::read(url, &mut options)?;
        Ok(options)
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that is wrong.
    pub fn validate(&self) -> Result<()> {
        let times = [
            ("connection_timeout", self.connection_timeout),
            ("statement_timeout", self.statement_timeout),
            (
                "lock_timeout",
                self.lock_timeout.unwrap_or(Duration::from_secs(1)),
            ),
            ("idle_in_transaction_timeout", self.idle_in_transaction_timeout),
            ("idle_timeout", self.idle_timeout),
            ("max_lifetime", self.max_lifetime),
        ];
        // The server counts milliseconds in 31 bits.
        let limits = Duration::from_millis(1)..=Duration::from_millis(i32::MAX as u64);
        let texts = [&self.host, &self.database, &self.user, &self.application_name];
        let why = if self.host.is_empty() {
            "host is missing".to_owned()
        } else if self.database.is_empty() {
            "database is missing".to_owned()
        } else if self.user.is_empty() {
            "user is missing".to_owned()
        } else if texts.iter().any(|text| text.contains('\0')) || self.password.expose().contains('\0') {
            "host, database, user, password and application_name must not hold a NUL character".to_owned()
        } else if !(1..=10_000).contains(&self.max_connections) {
            "max_connections must be 1 to 10000".to_owned()
        } else if self.min_connections > self.max_connections {
            "min_connections must not be above max_connections".to_owned()
        } else if let Some((name, _)) = times.iter().find(|(_, time)| !limits.contains(time)) {
            format!("{name} must be between 1 ms and 24 days")
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(format!("postgres: {why}")))
    }

    /// The server as errors name it.
    pub(crate) fn server(&self) -> String {
        if self.is_socket() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    fn is_local(&self) -> bool {
        self.is_socket() || is_loopback(&self.host)
    }

    pub(crate) fn tls_mode(&self) -> TlsMode {
        let by_host = if self.is_local() {
            TlsMode::Disable
        } else {
            TlsMode::VerifyFull
        };
        self.tls.mode.unwrap_or(by_host)
    }

    /// The driver's form. Each field that the driver would take from the environment is set; what cannot be set is
    /// refused when it is there.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions> {
        self.refuse_environment()?;
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(self.host.trim_matches(['[', ']']))
            .port(self.port)
            .database(&self.database)
            .username(&self.user)
            .password(self.password.expose())
            .application_name(&self.application_name)
            .extra_float_digits(None)
            .statement_cache_capacity(2 * crate::connection::STATEMENTS)
            .ssl_mode(match self.tls_mode() {
                TlsMode::Disable => PgSslMode::Disable,
                TlsMode::Require => PgSslMode::Require,
                TlsMode::VerifyCa => PgSslMode::VerifyCa,
                TlsMode::VerifyFull => PgSslMode::VerifyFull,
            })
            .options([
                ("statement_timeout", self.statement_timeout.as_millis()),
                ("lock_timeout", self.lock_timeout.unwrap_or_default().as_millis()),
                (
                    "idle_in_transaction_session_timeout",
                    self.idle_in_transaction_timeout.as_millis(),
                ),
            ])
            .disable_statement_logging();
        if self.is_socket() {
            options = options.socket(Path::new(&self.host));
        }
        if let Some(path) = &self.tls.root_cert {
            options = options.ssl_root_cert(path);
        }
        if let Some(path) = &self.tls.client_cert {
            options = options.ssl_client_cert(path);
        }
        if let Some(path) = &self.tls.client_key {
            options = options.ssl_client_key(path);
        }
        Ok(options)
    }

    /// C-14: the driver takes these from the environment and has no way to turn that off.
    fn refuse_environment(&self) -> Result<()> {
        let encrypted = self.tls_mode() != TlsMode::Disable;
        let read = [
            (
                "PGOPTIONS",
                true,
                "set the options for the role: ALTER ROLE … SET …",
            ),
            (
                "PGSSLROOTCERT",
                encrypted && self.tls.root_cert.is_none(),
                "give sslrootcert in the URL",
            ),
            (
                "PGSSLCERT",
                encrypted && self.tls.client_cert.is_none(),
                "give sslcert in the URL",
            ),
            (
                "PGSSLKEY",
                encrypted && self.tls.client_key.is_none(),
                "give sslkey in the URL",
            ),
        ];
        for (name, is_read, remedy) in read {
            if is_read && std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
                return Err(Error::invalid_input(format!(
                    "postgres: the environment variable {name} would change the connection behind the configuration's \
                     back; unset it and {remedy}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> PostgresOptions {
        PostgresOptions::from_url(url).unwrap()
    }

    #[test]
    fn ml_db_5_what_the_url_leaves_out_comes_from_the_fields() {
        let config = DatabaseConfig {
            url: "postgres://db/positions".into(),
            user: "app".into(),
            password: "canary".into(),
            ..DatabaseConfig::default()
        };
        let read = PostgresOptions::try_from(&config).unwrap();
        assert_eq!(
            (&*read.host, &*read.user, read.password.expose()),
            ("db", "app", "canary")
        );
        assert!(!format!("{read:?}").contains("canary"));
        let nothing = PostgresOptions::try_from(&DatabaseConfig::default());
        assert!(nothing.unwrap_err().message().contains("database is missing"));
    }

    #[test]
    fn c_13_only_loopback_is_plain_by_default() {
        for (url, mode) in [
            ("postgres://localhost/a", TlsMode::Disable),
            ("postgres://127.0.0.1/a", TlsMode::Disable),
            ("postgres://[::1]/a", TlsMode::Disable),
            ("postgres:///a?host=/run/postgresql", TlsMode::Disable),
            ("postgres://db/a", TlsMode::VerifyFull),
            ("postgres://10.0.0.1/a", TlsMode::VerifyFull),
            ("postgres://db/a?sslmode=require", TlsMode::Require),
        ] {
            assert_eq!(options(url).tls_mode(), mode, "{url}");
        }
    }

    #[test]
    fn wrong_fields_are_refused() {
        let good = options("postgres://localhost/a");
        good.validate().unwrap();
        for bad in [
            PostgresOptions {
                database: String::new(),
                ..good.clone()
            },
            PostgresOptions {
                user: "a\0b".into(),
                ..good.clone()
            },
            PostgresOptions {
                max_connections: 0,
                ..good.clone()
            },
            PostgresOptions {
                min_connections: 26,
                ..good.clone()
            },
            PostgresOptions {
                statement_timeout: Duration::ZERO,
                ..good.clone()
            },
            PostgresOptions {
                statement_timeout: Duration::MAX,
                ..good
            },
        ] {
            assert!(bad.validate().unwrap_err().is_invalid_input(), "{bad:?}");
        }
    }
}
