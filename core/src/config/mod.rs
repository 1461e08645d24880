//! Configuration: plain structs, filled from files and the environment, checked as a whole.
//!
//! [`load`] reads a YAML, TOML or JSON file, lets environment variables override it, fills in the defaults and
//! validates. Whatever is wrong comes back in one error that names every key, its source, the rule and the value,
//! never a secret's ([`violations`] gives the list).
//!
//! # Where a value comes from
//! Per key, the source of the highest priority wins: environment variables (300), files (200), command-line flags
//! (100), defaults in code (0). Tables merge key by key; a list is replaced as a whole.
//!
//! - **Environment.** `CQI_DATABASE_MAX_CONNECTIONS` sets `database.max_connections` when the prefix is `CQI`. Known
//!   keys decide where a name is split, never the underscores. Lists are separated by commas. A variable that is set
//!   to the empty string counts as set. Names are upper case. `LOG_LEVEL` sets `logging.level` where the prefixed
//!   variable does not. A variable with the prefix that fits no key is a warning.
//! - **Files.** A key nobody knows is an error that names the nearest known one. Texts may hold `${NAME}` and
//!   `${NAME:default}`; see [`Loader::file`].
//! - **Durations** are texts with units: `5s`, `500ms`, `1m30s`.
//!
//! # A program's own settings
//! Any struct with serde's traits, `Default` and [`Validate`] can be loaded. Its default, serialised, tells the known
//! keys, so every field must be serialised always, and every struct carries `#[serde(default)]`.
//!
//! ```
//! use cqi_core::config::{Config, Validate, Violations, Loader};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Default, Serialize, Deserialize)]
//! #[serde(default)]
//! struct Settings {
//!     #[serde(flatten)]
//!     cqi: Config,
//!     pricing: Pricing,
//! }
//!
//! #[derive(Debug, Default, Serialize, Deserialize)]
//! #[serde(default)]
//! struct Pricing {
//!     currency: String,
//! }
//!
//! impl Validate for Settings {
//!     fn validate(&self, violations: &mut Violations) {
//!         self.cqi.validate(violations);
//!         violations.required("pricing.currency", &self.pricing.currency);
//!     }
//! }
//!
//! let loaded = Loader::new()
//!     .env_prefix("SHOP")
//!     .vars([("SHOP_SERVICE_NAME", "shop"), ("SHOP_PRICING_CURRENCY", "EUR"), ("SHOP_DATABASE_MAX_CONNECTIONS", "40")])
//!     .load::<Settings>()?;
//! assert_eq!(loaded.value.cqi.database.max_connections, 40);
//! assert_eq!(loaded.origin("pricing.currency"), "SHOP_PRICING_CURRENCY");
//! # Ok::<(), cqi_core::Error>(())
//! ```
//!
//! # Secrets
//! Passwords and keys are [`Secret`](crate::secret::Secret)s and URLs [`ConnectionUrl`]s: neither prints its secret
//! part. Give them by environment variable, and keep them in a secret manager in production (CFG-22).

pub mod duration;
mod env;
mod file;
mod keys;
mod loader;
mod placeholder;
mod resolve;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod url;
mod validate;

pub use self::{
    keys::Keys,
    loader::{Loaded, Loader, load, must_load},
    sections::{
        AuthConfig, CacheConfig, Config, DatabaseConfig, EventBusConfig, GrpcConfig, HealthConfig, LogConfig,
        LogFilter, LogFormat, MetricsConfig, RegistryConfig, RestartPolicy, RetryConfig, RunnerConfig,
        ServerConfig, StartupConfig, StreamConfig, TracingConfig,
    },
    source::{Settings, Source},
    url::{ConnectionUrl, is_loopback},
    validate::{Validate, Violation, Violations, violations},
};
