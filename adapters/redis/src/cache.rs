//! The cache port on Redis.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cqi_core::{
    Code, Error, Result,
    cache::{Cache, Capabilities, Condition, SetOptions, check_key},
};
use redis::{Cmd, Script, Value};

use crate::{RedisOptions, connection::Connection, error::Call};

/// A longer time to live counts as this one; Redis refuses what leaves its calendar.
const MAX_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Gives an absent key its time to live before it counts; one script, so nobody sees the key in between. The sum is read
/// as text, because numbers of scripts are inexact beyond 2^53.
const ADD: &str = "redis.call('SET', KEYS[1], 0, 'PX', ARGV[2], 'NX') \
                   redis.call('INCRBY', KEYS[1], ARGV[1]) \
                   return redis.call('GET', KEYS[1])";
static ADD_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(ADD));

/// A cache on Redis. Cheap to clone; clones share one connection.
///
/// Times to live are kept to the millisecond, rounded up, and count as at most 100 years. Keys are used as they
/// are, behind the prefix if there is one. A Redis that is full and evicts nothing refuses to write with `Temporary`/`Exhausted` and goes on reading. A key that
/// holds a list or the like, put there by somebody else, is `InvalidInput`/`FailedPrecondition`.
#[derive(Debug, Clone)]
pub struct RedisCache {
    connection: Arc<Connection>,
}

impl RedisCache {
    /// Connects, within `connection_timeout`.
    ///
    /// # Errors
    /// `InvalidInput` for bad options and an unknown database, `Unauthorized` for refused credentials,
    /// `Temporary`/`Unavailable` when there is no server, `Permanent` when it is none of Redis.
    pub async fn connect(options: RedisOptions) -> Result<Self> {
        let connection = Connection::open(options, "cache", None).await?;
        Ok(Self {
            connection: Arc::new(connection),
        })
    }

    /// The key as Redis has it (ML-CACHE-4).
    fn key<'a>(&self, key: &'a str) -> Result<Cow<'a, str>> {
        check_key(key)?;
        Ok(match self.connection.options().key_prefix.as_str() {
            "" => Cow::Borrowed(key),
            prefix => Cow::Owned(format!("{prefix}:{key}")),
        })
    }

    async fn whether(&self, call: Call, command: &Cmd) -> Result<bool> {
        match self.connection.run(call, command).await? {
            Value::Int(count) => Ok(count > 0),
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            _ => Err(self.connection.unexpected(call)),
        }
    }
}

#[async_trait]
impl Cache for RedisCache {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ttl_resolution: Duration::from_millis(1),
            max_value: self.connection.options().max_value,
            shared: true,
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        const CALL: Call = Call::read("cache.get");
        let key = self.key(key)?;
        match self.connection.run(CALL, &command("GET", 1, &key, 0)).await? {
            Value::BulkString(value) => Ok(Some(value.into())),
            Value::Nil => Ok(None),
            _ => Err(self.connection.unexpected(CALL)),
        }
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        let key = self.key(key)?;
        let ttl = options.ttl.map(milliseconds).transpose()?;
        let max = self.connection.options().max_value;
        if value.len() > max {
            return Err(
                Error::invalid_input(format!("cache value may have at most {max} bytes"))
                    .with_code(Code::TooLarge)
                    .with_context("bytes", value.len()),
            );
        }
        let mut command = command("SET", 5, &key, value.len());
        command.arg(&value[..]);
        if let Some(ttl) = ttl {
            command.arg("PX").arg(ttl);
        }
        match options.condition {
            Condition::Always => {}
            Condition::IfAbsent => drop(command.arg("NX")),
            Condition::IfPresent => drop(command.arg("XX")),
        }
        self.whether(Call::write("cache.set"), &command).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let key = self.key(key)?;
        self.whether(Call::write("cache.delete"), &command("DEL", 1, &key, 0))
            .await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let key = self.key(key)?;
        self.whether(Call::read("cache.exists"), &command("EXISTS", 1, &key, 0))
            .await
    }

    async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        const CALL: Call = Call::write("cache.add");
        let key = self.key(key)?;
        let answer = match ttl.map(milliseconds).transpose()? {
            None => {
                let mut command = command("INCRBY", 2, &key, 20);
                self.connection.run(CALL, command.arg(delta)).await?
            }
            Some(ttl) => {
                let (delta, ttl) = (delta.to_string(), ttl.to_string());
                let args = [delta.as_bytes(), ttl.as_bytes()];
                self.connection
                    .script(CALL, &ADD_SCRIPT, ADD, &key, &args)
                    .await?
            }
        };
        let sum = match answer {
            Value::Int(sum) => Some(sum),
            Value::BulkString(text) => std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        sum.ok_or_else(|| self.connection.unexpected(CALL))
    }

    async fn ping(&self) -> Result<()> {
        self.connection.ping("cache.ping").await
    }

    async fn close(&self) -> Result<()> {
        self.connection.close().await;
        Ok(())
    }
}

/// A command with room for all it will hold, so that a large value is not copied while the command grows.
fn command(name: &str, args: usize, key: &str, value: usize) -> Cmd {
    let mut command = Cmd::with_capacity(args + 1, name.len() + key.len() + value + 24);
    command.arg(name).arg(key);
    command
}

fn milliseconds(ttl: Duration) -> Result<u64> {
    if ttl.is_zero() {
        return Err(Error::invalid_input("cache time to live must be above zero"));
    }
    let nanoseconds = ttl.min(MAX_TTL).as_nanos();
    Ok(u64::try_from(nanoseconds.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op_34_times_are_rounded_up_and_never_zero() {
        assert!(milliseconds(Duration::ZERO).unwrap_err().is_invalid_input());
        assert_eq!(milliseconds(Duration::from_nanos(1)).unwrap(), 1);
        assert_eq!(milliseconds(Duration::from_micros(1_001)).unwrap(), 2);
        assert_eq!(milliseconds(Duration::MAX).unwrap(), MAX_TTL.as_secs() * 1000);
    }
}
