//! The registry port on Redis.

mod scripts;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{
    Error, Result, name,
    registry::{Instance, Registry, ServiceInfo, Watch},
};
use jiff::Timestamp;
use redis::{FromRedisValue, from_redis_value};
use uuid::Uuid;

use self::{scripts::Code, watch::RedisWatch};
use crate::{RedisRegistryOptions, connection::Connection, error::Call};

/// A longer time to live counts as this one.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Rows of a script's answer, which may hold what others wrote.
type Rows = Vec<Vec<Vec<u8>>>;

/// A registry on Redis. Cheap to clone; clones share one connection.
///
/// A registration lives for the time to live this handle was made with, by the server's clock, and so does a renewal.
/// The whole registry is in one slot, so a cluster keeps it on one node. A watch hears of changes at once through
/// publish/subscribe, and within a second without it; one that falls more than 256 changes behind gets the difference.
/// After its connection broke, a watch reports that at most once a second.
#[derive(Clone)]
pub struct RedisRegistry(Arc<Shared>);

struct Shared {
    connection: Connection,
    /// In milliseconds, as text.
    ttl: String,
}

impl RedisRegistry {
    /// Connects, within `connection_timeout`.
    ///
    /// # Errors
    /// `InvalidInput` for bad options and an unknown database, `Unauthorized` for refused credentials,
    /// `Temporary`/`Unavailable` when there is no server, `Permanent` when it is none of Redis or older than 6.
    pub async fn connect(options: RedisRegistryOptions) -> Result<Self> {
        options.check_ttl()?;
        let ttl = options.ttl.min(MAX_TTL).as_millis().to_string();
        let connection = Connection::open(options.redis, "registry", Some(scripts::BELL)).await?;
        Ok(Self(Arc::new(Shared { connection, ttl })))
    }
}

impl Shared {
    async fn run<T: FromRedisValue>(&self, call: Call, code: &Code, args: [&str; 3]) -> Result<T> {
        let args = [args[0], &self.ttl, args[1], args[2]].map(str::as_bytes);
        let answer = self
            .connection
            .script(call.of_many_keys(), &code.script, code.text, scripts::SLOT, &args)
            .await?;
        from_redis_value(answer).map_err(|_| self.connection.unexpected(call))
    }

    /// Runs a script on one instance, which says whether there is one.
    async fn on_instance(&self, call: Call, code: &Code, id: Uuid) -> Result<()> {
        match self.run(call, code, [&id.to_string(), "", ""]).await? {
            true => Ok(()),
            false => Err(Error::not_found("service instance", id)),
        }
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn register(&self, info: ServiceInfo) -> Result<Instance> {
        const CALL: Call = Call::write("registry.register");
        info.validate()?;
        let json = serde_json::to_string(&info).map_err(|error| {
            Error::invalid_input("service information cannot be written as JSON").with_source(error)
        })?;
        let id = Uuid::now_v7();
        let at: i64 = self
            .0
            .run(CALL, &scripts::REGISTER, [&id.to_string(), &info.name, &json])
            .await?;
        let at = Timestamp::from_microsecond(at).map_err(|_| self.0.connection.unexpected(CALL))?;
        Ok(Instance::new(id, at, info))
    }

    async fn deregister(&self, id: Uuid) -> Result<()> {
        self.0
            .on_instance(Call::write("registry.deregister"), &scripts::DEREGISTER, id)
            .await
    }

    async fn heartbeat(&self, id: Uuid) -> Result<()> {
        self.0
            .on_instance(Call::write("registry.heartbeat"), &scripts::HEARTBEAT, id)
            .await
    }

    async fn discover(&self, name: &str) -> Result<Vec<Instance>> {
        name::check_name(name, "service name")?;
        let rows: Rows = self
            .0
            .run(
                Call::read("registry.discover"),
                &scripts::DISCOVER,
                ["", name, ""],
            )
            .await?;
        Ok(instances(name, &rows))
    }

    async fn watch(&self, name: &str) -> Result<Box<dyn Watch>> {
        name::check_name(name, "service name")?;
        Ok(Box::new(RedisWatch::start(Arc::clone(&self.0), name).await?))
    }

    async fn ping(&self) -> Result<()> {
        self.0.connection.ping("registry.ping").await
    }

    async fn close(&self) -> Result<()> {
        self.0.connection.close().await;
        Ok(())
    }
}

impl fmt::Debug for RedisRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegistry")
            .field("connection", &self.0.connection)
            .field("ttl_ms", &self.0.ttl)
            .finish()
    }
}

/// The instances of rows of id, time and JSON, in order of registration. What cannot be read is left out: one broken
/// record must not hide the others.
fn instances(name: &str, rows: &Rows) -> Vec<Instance> {
    let mut instances: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let instance = instance(row);
            if instance.is_none() {
                tracing::warn!(
                    service = name,
                    "the registry has an instance that cannot be read, leaving it out"
                );
            }
            instance
        })
        .collect();
    instances.sort_by_key(|instance| (instance.registered_at, instance.id));
    instances
}

fn instance(row: &[Vec<u8>]) -> Option<Instance> {
    let [id, at, info] = row else { return None };
    let at = std::str::from_utf8(at).ok()?.parse().ok()?;
    let info: ServiceInfo = serde_json::from_slice(info).ok()?;
    info.validate().ok()?;
    Some(Instance::new(
        Uuid::try_parse_ascii(id).ok()?,
        Timestamp::from_microsecond(at).ok()?,
        info,
    ))
}
