//! What a connection to Redis is made from.

use std::time::Duration;

use cqi_core::{
    Error, Result,
    cache::check_key_prefix,
    config::{CacheConfig, RegistryConfig, is_loopback},
    secret::Secret,
};

use crate::url;

/// The port when none is given.
pub(crate) const DEFAULT_PORT: u16 = 6379;
/// The longest time that can be set: a year.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// The largest value that Redis keeps.
const MAX_VALUE: usize = 512 << 20;

/// Where Redis is and how calls to it are bounded.
///
/// ```
/// use cqi_redis::RedisOptions;
///
/// let options = RedisOptions::from_url("rediss://app:secret@cache.example/2")?;
/// assert_eq!((options.tls, options.database), (true, 2));
/// assert!(!format!("{options:?}").contains("secret"));
/// # Ok::<(), cqi_core::Error>(())
/// ```
#[allow(clippy::exhaustive_structs)] // made with `..RedisOptions::default()`
#[derive(Debug, Clone, PartialEq)]
pub struct RedisOptions {
    /// Hosts and ports: the server, or some nodes of a cluster. Default `localhost:6379`.
    pub nodes: Vec<(String, u16)>,
    /// Whether the nodes are a cluster. Default: no.
    pub cluster: bool,
    /// Whether to speak TLS; the server's certificate is always verified. Default: no.
    pub tls: bool,
    /// PEM of the certificate authorities to trust instead of the public ones. Default: none.
    pub root_certificates: Option<Vec<u8>>,
    /// The user. Default empty: the server's default user.
    pub user: String,
    /// The password. Default empty: none is sent.
    pub password: Secret,
    /// The number of the logical database. Default 0.
    pub database: u32,
    /// What is put before every key of the cache, with a `:`, where several services share a server; see
    /// [`check_key_prefix`]. The registry has its own names. Default empty: none.
    pub key_prefix: String,
    /// How long the first connecting may last. Default 5 s; later attempts take at most 2 s each.
    pub connection_timeout: Duration,
    /// How long one call may last. Default 5 s.
    pub timeout: Duration,
    /// How often the connection is tried. A dead one is noticed within twice this time, also when idle. Default 5 s.
    pub ping_interval: Duration,
    /// The largest value of a cache entry, in bytes. Default and most 512 MiB. A large value holds up what is behind it.
    pub max_value: usize,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            nodes: vec![("localhost".into(), DEFAULT_PORT)],
            cluster: false,
            tls: false,
            root_certificates: None,
            user: String::new(),
            password: Secret::default(),
            database: 0,
            key_prefix: String::new(),
            connection_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            max_value: MAX_VALUE,
        }
    }
}

impl RedisOptions {
    /// Reads `redis://user:password@host:6379/0`; see the crate's documentation.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong, never the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut options = Self::default();
        url::apply(url, &mut options)?;
        Ok(options)
    }

    /// Hosts and ports, for humans.
    pub(crate) fn server(&self) -> String {
        let nodes = self.nodes.iter().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
        nodes.collect::<Vec<_>>().join(",")
    }

    /// Whether what is sent can be read on the way by others (C-13).
    pub(crate) fn is_open_to_others(&self) -> bool {
        !self.tls && !self.nodes.iter().all(|(host, _)| is_loopback(host))
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let why = if self.nodes.is_empty() || self.nodes.iter().any(|(host, _)| host.is_empty()) {
            "redis needs a host"
        } else if self.nodes.len() > 1 && !self.cluster {
            "several redis hosts are a cluster; set cluster"
        } else if self.cluster && self.database != 0 {
            "a redis cluster has no database but 0"
        } else if !self.user.is_empty() && self.password.is_empty() {
            "a redis user needs a password"
        } else if [self.connection_timeout, self.timeout, self.ping_interval]
            .iter()
            .any(|time| time.is_zero() || *time > MAX_TIME)
        {
            "redis timeouts and the ping interval must be above zero and at most a year"
        } else if self.max_value == 0 || self.max_value > MAX_VALUE {
            "the largest redis value must be between 1 byte and 512 MiB"
        } else {
            return check_key_prefix(&self.key_prefix);
        };
        Err(Error::invalid_input(why))
    }
}

impl TryFrom<&CacheConfig> for RedisOptions {
    type Error = Error;

    /// What the URL leaves out comes from the other fields.
    fn try_from(config: &CacheConfig) -> Result<Self> {
        let mut options = Self {
            nodes: vec![(config.host.clone(), config.port)],
            user: config.user.clone(),
            password: config.password.clone(),
            database: config.database,
            key_prefix: config.key_prefix.clone(),
            connection_timeout: config.connection_timeout,
            timeout: config.timeout,
            ..Self::default()
        };
        if !config.url.is_empty() {
            url::apply(config.url.expose(), &mut options)?;
        }
        options.validate()?;
        Ok(options)
    }
}

/// Where the registry is and how long a registration lives.
#[allow(clippy::exhaustive_structs)] // made with `..RedisRegistryOptions::default()`
#[derive(Debug, Clone, PartialEq)]
pub struct RedisRegistryOptions {
    /// The connection.
    pub redis: RedisOptions,
    /// How long a registration lives unless renewed, by the server's clock; at least 1 ms. Default 30 s (REG-5).
    pub ttl: Duration,
}

impl Default for RedisRegistryOptions {
    fn default() -> Self {
        Self {
            redis: RedisOptions::default(),
            ttl: Duration::from_secs(30),
        }
    }
}

impl RedisRegistryOptions {
    pub(crate) fn check_ttl(&self) -> Result<()> {
        if self.ttl < Duration::from_millis(1) {
            return Err(Error::invalid_input(
                "registry time to live must be at least 1 ms",
            ));
        }
        Ok(())
    }
}

impl TryFrom<&RegistryConfig> for RedisRegistryOptions {
    type Error = Error;

    /// What the URL leaves out comes from the other fields.
    fn try_from(config: &RegistryConfig) -> Result<Self> {
        let mut redis = RedisOptions {
            password: config.password.clone(),
            connection_timeout: config.timeout,
            timeout: config.timeout,
            ..RedisOptions::default()
        };
        url::apply(config.url.expose(), &mut redis)?;
        redis.validate()?;
        let options = Self {
            redis,
            ttl: config.ttl,
        };
        options.check_ttl()?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ML-CACHE-3: where the server is, the login, the database and the times.
    #[test]
    fn cch_4_the_url_goes_before_the_fields_and_the_fields_fill_it() {
        let config = CacheConfig {
            url: "redis://cache:7000".into(),
            host: "other".into(),
            user: "app".into(),
            password: "canary".into(),
            database: 3,
            key_prefix: "shop".into(),
            timeout: Duration::from_secs(1),
            ..CacheConfig::default()
        };
        let options = RedisOptions::try_from(&config).unwrap();
        assert_eq!(options.server(), "cache:7000");
        assert_eq!(
            (options.user.as_str(), options.password.expose()),
            ("app", "canary")
        );
        assert_eq!((options.database, options.timeout), (3, Duration::from_secs(1)));
        assert_eq!(options.key_prefix, "shop");
        assert!(!format!("{options:?}").contains("canary"));
        let fields = CacheConfig {
            url: "".into(),
            ..config
        };
        assert_eq!(RedisOptions::try_from(&fields).unwrap().server(), "other:6379");
    }

    #[test]
    fn reg_11_the_registry_is_configured_alike() {
        let config = RegistryConfig {
            url: "rediss://[::1]/4".into(),
            password: "canary".into(),
            ttl: Duration::from_secs(7),
            ..RegistryConfig::default()
        };
        let options = RedisRegistryOptions::try_from(&config).unwrap();
        assert_eq!(options.redis.server(), "[::1]:6379");
        assert_eq!((options.redis.tls, options.redis.database), (true, 4));
        assert_eq!(
            (options.ttl, options.redis.password.expose()),
            (config.ttl, "canary")
        );
    }

    #[test]
    fn c_13_only_loopback_and_tls_are_safe_from_others() {
        for (url, open) in [
            ("redis://localhost", false),
            ("redis://127.0.0.7", false),
            ("redis://[::1]", false),
            ("rediss://cache.example", false),
            ("redis://cache.example", true),
            ("redis://10.0.0.1", true),
            ("redis://localhost,cache.example", true),
        ] {
            let options = RedisOptions::from_url(url).unwrap();
            assert_eq!(options.is_open_to_others(), open, "{url}");
        }
    }

    #[test]
    fn reg_5_a_registration_lives_for_30_s_by_default() {
        let default = RedisRegistryOptions::default();
        assert_eq!(default.ttl, Duration::from_secs(30));
        let configured = RegistryConfig {
            url: "redis://localhost".into(),
            ..RegistryConfig::default()
        };
        assert_eq!(
            RedisRegistryOptions::try_from(&configured).unwrap().ttl,
            default.ttl
        );
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let good = RedisOptions::default;
        for bad in [
            RedisOptions {
                nodes: Vec::new(),
                ..good()
            },
            RedisOptions {
                cluster: true,
                database: 1,
                ..good()
            },
            RedisOptions {
                user: "app".into(),
                ..good()
            },
            RedisOptions {
                timeout: Duration::ZERO,
                ..good()
            },
            RedisOptions {
                timeout: Duration::MAX,
                ..good()
            },
            RedisOptions {
                max_value: MAX_VALUE + 1,
                ..good()
            },
        ] {
            assert!(bad.validate().unwrap_err().is_invalid_input(), "{bad:?}");
        }
    }
}
