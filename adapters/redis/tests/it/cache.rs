//! The cache suite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cqi_core::{
    Result,
    cache::{Cache, MAX_KEY},
};
use cqi_redis::{RedisCache, RedisOptions};
use cqi_testkit::{
    conformance::{Profile, cache::CacheHarness},
    fixture::{self, Kind},
};

use crate::kit::{FOR_EVER, ask, options, own};

struct Harness;

#[async_trait]
impl CacheHarness for Harness {
    async fn connect(&self) -> Result<Arc<dyn Cache>> {
        let server = fixture::shared(Kind::Redis).expect("a server");
        Ok(Arc::new(
            RedisCache::connect(RedisOptions::from_url(server.url())?).await?,
        ))
    }

    fn adapter(&self) -> &'static str {
        "Redis"
    }

    fn profile(&self) -> Profile {
        Profile::real()
    }

    fn missing(&self) -> Option<String> {
        fixture::missing(Kind::Redis)
    }
}

cqi_testkit::cache_suite!(Harness);

#[tokio::test]
async fn ml_cache_4_caches_with_prefixes_share_a_server_and_no_keys() {
    let Some(server) = own(&[]) else { return };
    let with = async |key_prefix: &str| {
        let options = RedisOptions {
            key_prefix: key_prefix.to_owned(),
            ..options(server.address())
        };
        RedisCache::connect(options).await
    };
    let (plain, a, b) = (
        with("").await.unwrap(),
        with("a").await.unwrap(),
        with("b").await.unwrap(),
    );
    for (cache, value) in [(&plain, "0"), (&a, "1"), (&b, "2")] {
        cache.set("k", Bytes::from(value), FOR_EVER).await.unwrap();
    }
    assert_eq!(a.add("k", 10, None).await.unwrap(), 11);
    let minute = Some(Duration::from_secs(60));
    assert_eq!(b.add("n", 1, minute).await.unwrap(), 1);
    assert!(!a.exists("n").await.unwrap() && b.exists("n").await.unwrap());
    assert!(a.delete("k").await.unwrap());
    assert_eq!(a.get("k").await.unwrap(), None);
    assert_eq!(b.get("k").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(plain.get("b:k").await.unwrap().as_deref(), Some(&b"2"[..]));
    // The prefix takes nothing of what a key may be.
    let long = "k".repeat(MAX_KEY);
    assert!(a.set(&long, Bytes::new(), FOR_EVER).await.unwrap());
    assert!(a.get("").await.unwrap_err().is_invalid_input());
    let mut keys: Vec<String> = ask(server.address(), &["KEYS", "*"]).await;
    keys.sort();
    assert_eq!(keys, [&format!("a:{long}"), "b:k", "b:n", "k"]);
    let error = with("a:b").await.unwrap_err();
    assert!(error.is_invalid_input(), "{error}");
}
