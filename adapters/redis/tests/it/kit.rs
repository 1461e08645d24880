//! What the tests of this crate are written with.

use std::{net::SocketAddr, time::Duration};

use cqi_core::cache::SetOptions;
use cqi_redis::{RedisCache, RedisOptions, RedisRegistry, RedisRegistryOptions};
use cqi_testkit::fixture::{self, Kind, Options, Server};
use redis::{Client, FromRedisValue, aio::MultiplexedConnection};

pub(crate) const FOR_EVER: SetOptions = SetOptions::no_expiry();

/// Short times, so that faults show soon.
pub(crate) fn options(address: SocketAddr) -> RedisOptions {
    RedisOptions {
        nodes: vec![(address.ip().to_string(), address.port())],
        connection_timeout: Duration::from_secs(2),
        timeout: Duration::from_millis(500),
        ping_interval: Duration::from_secs(1),
        ..RedisOptions::default()
    }
}

/// A server without persistence.
pub(crate) fn own(lines: &[&str]) -> Option<Server> {
    let options = lines
        .iter()
        .fold(Options::new().line("save \"\""), |options, &line| {
            options.line(line)
        });
    fixture::require_own(Kind::Redis, &options)
}

pub(crate) async fn cache(server: &Server) -> RedisCache {
    RedisCache::connect(options(server.address())).await.unwrap()
}

pub(crate) async fn registry(address: SocketAddr, ttl: Duration) -> RedisRegistry {
    let redis = options(address);
    RedisRegistry::connect(RedisRegistryOptions { redis, ttl })
        .await
        .unwrap()
}

/// The client itself, for what the port does not do.
pub(crate) async fn raw(address: SocketAddr) -> MultiplexedConnection {
    let client = Client::open(format!("redis://{address}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

pub(crate) async fn ask<T: FromRedisValue>(address: SocketAddr, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut raw(address).await).await.unwrap()
}
