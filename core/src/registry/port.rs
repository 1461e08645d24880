//! The registry port: what an adapter implements, and the contract the conformance suite checks.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result, name};

/// The longest address, version or metadata value, in bytes.
const MAX_TEXT: usize = 255;
/// The most metadata entries.
const MAX_METADATA: usize = 32;

/// What a service says about one running instance of itself.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Service name, `[a-z][a-z0-9_-]*`.
    pub name: String,
    /// Version, free text.
    pub version: String,
    /// Host name or IP address, without scheme and port.
    pub address: String,
    /// Port, 1 to 65535.
    pub port: u16,
    /// Path of the health endpoint, for example `/health/ready`; empty when there is none.
    pub health_endpoint: String,
    /// What else callers may want to know.
    pub metadata: BTreeMap<String, String>,
}

impl ServiceInfo {
    /// An instance without metadata and health endpoint.
    pub fn new(
        name: impl Into<String>,
        version: impl Into<String>,
        address: impl Into<String>,
        port: u16,
    ) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            address: address.into(),
            port,
            health_endpoint: String::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Sets the path of the health endpoint.
    pub fn with_health_endpoint(mut self, path: impl Into<String>) -> Self {
        self.health_endpoint = path.into();
        self
    }

    /// Adds a metadata entry.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Checks every field (REG-9, K-09). Every adapter calls it first.
    ///
    /// # Errors
    /// `InvalidInput` naming the first broken rule.
    pub fn validate(&self) -> Result<()> {
        name::check_name(&self.name, "service name")?;
        let host = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        let text = |text: &str| text.len() <= MAX_TEXT && !text.contains(char::is_control);
        let why = if self.address.is_empty() {
            "service address must not be empty"
        } else if self.address.len() > MAX_TEXT || !self.address.bytes().all(host) {
            "service address must be a host name or IP address of at most 255 bytes, without scheme and path"
        } else if self.port == 0 {
            "service port must be between 1 and 65535"
        } else if !text(&self.version) || !text(&self.health_endpoint) {
            "service version and health endpoint may have at most 255 bytes without control characters"
        } else if !self.health_endpoint.is_empty() && !self.health_endpoint.starts_with('/') {
            "service health endpoint must start with /"
        } else if self.metadata.len() > MAX_METADATA
            || self.metadata.iter().any(|(k, v)| !text(k) || !text(v))
        {
            "service metadata may have at most 32 entries of at most 255 bytes without control characters"
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(why).with_context("service", &self.name))
    }
}

/// A registered instance.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The id given at registration.
    pub id: Uuid,
    /// When it was registered; for one that came back after expiring, when it came back.
    pub registered_at: Timestamp,
    /// What it said about itself.
    pub info: ServiceInfo,
}

impl Instance {
    /// Made by adapters.
    pub fn new(id: Uuid, registered_at: Timestamp, info: ServiceInfo) -> Self {
        Self {
            id,
            registered_at,
            info,
        }
    }
}

/// What happened to the instances of a name.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An instance is there: in the snapshot at the start of a watch, or newly registered.
    Up(Instance),
    /// An instance is gone: deregistered or expired.
    Down(Uuid),
}

/// A registry of running services.
///
/// # Behaviour
/// - An instance that is not renewed within the registry's time to live is gone.
/// - `discover` gives every live instance of the name in order of registration; an unknown name gives an empty list.
/// - A name that nobody can register is `InvalidInput`, for `discover` and `watch` too.
/// - Every method is cancel-safe.
/// - Every method after [`Registry::close`] answers `Permanent`/`Closed`; a second `close` is `Ok`.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Registers an instance and returns it with its new id.
    ///
    /// # Errors
    /// `InvalidInput` when [`ServiceInfo::validate`] refuses it.
    async fn register(&self, info: ServiceInfo) -> Result<Instance>;

    /// Removes an instance.
    ///
    /// # Errors
    /// `NotFound` when there is none of this id.
    async fn deregister(&self, id: Uuid) -> Result<()>;

    /// Renews an instance for another time to live.
    ///
    /// # Errors
    /// `NotFound` when it has expired or was never there: register again.
    async fn heartbeat(&self, id: Uuid) -> Result<()>;

    /// The live instances of a name.
    async fn discover(&self, name: &str) -> Result<Vec<Instance>>;

    /// Follows a name: first an `Up` for every live instance, then each change once, in order. A watcher that falls far
    /// behind gets the difference to what it knew instead of every change in between.
    async fn watch(&self, name: &str) -> Result<Box<dyn Watch>>;

    /// Whether the registry answers.
    async fn ping(&self) -> Result<()>;

    /// Closes the connections. Idempotent.
    async fn close(&self) -> Result<()>;
}

/// A running watch. Dropping it ends it.
#[async_trait]
pub trait Watch: fmt::Debug + Send + 'static {
    /// Waits for the next change; `None` when the registry was closed. Cancel-safe.
    ///
    /// # Errors
    /// `Temporary` when the connection broke; the next call goes on with a new snapshot.
    async fn next(&mut self) -> Option<Result<Change>>;
}

const _: fn(&dyn Registry, &dyn Watch) = |_, _| ();
