//! Typed values in a cache of bytes.

use std::future::Future;

use super::{Cache, SetOptions};
use crate::{Code, Error, Result, event::Payload, name::shown};

/// Gets and sets messages: protobuf as they are, serde types as [`Json`](crate::event::Json). Every [`Cache`] has it.
///
/// ```
/// use std::time::Duration;
/// use cqi_core::{cache::{Cache, CacheExt, SetOptions, key}, event::Json};
///
/// # async fn example(cache: &dyn Cache) -> cqi_core::Result<()> {
/// let key = key("position", ["p1"]);
/// cache.set_as(&key, &Json(vec![1, 2]), SetOptions::ttl(Duration::from_secs(300))).await?;
/// let position: Option<Json<Vec<i32>>> = cache.get_as(&key).await?;
/// # Ok(())
/// # }
/// ```
pub trait CacheExt: Cache {
    /// The value of `key` as a `T`, or `None` when there is none. Cancel-safe.
    ///
    /// A value that is no `T`, such as one of an older version, is a miss: it is logged and deleted (K-04). So is what
    /// somebody else keeps under this key and a cache cannot read.
    ///
    /// # Errors
    /// Those of [`Cache::get`].
    fn get_as<T: Payload>(&self, key: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        async move {
            let unreadable = match self.get(key).await {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => match T::decode(&bytes) {
                    Ok(value) => return Ok(Some(value)),
                    Err(error) => error,
                },
                Err(error) if error.is_invalid_input() && error.code() == Some(Code::FailedPrecondition) => {
                    error
                }
                Err(error) => return Err(error),
            };
            tracing::warn!(key = shown(key), error = %unreadable.chain(), "cache entry deleted: it cannot be decoded");
            if let Err(error) = self.delete(key).await {
                tracing::warn!(key = shown(key), error = %error.chain(), "deleting the cache entry failed");
            }
            Ok(None)
        }
    }

    /// As [`CacheExt::get_as`] for a value that must be there (CCH-7).
    ///
    /// # Errors
    /// `NotFound` for a miss, else those of [`Cache::get`].
    fn get_required<T: Payload>(&self, key: &str) -> impl Future<Output = Result<T>> + Send {
        async move {
            let value = self.get_as(key).await?;
            value.ok_or_else(|| Error::not_found("cache entry", shown(key)))
        }
    }

    /// Encodes and sets. Returns whether the condition held.
    ///
    /// # Errors
    /// `InvalidInput` when `value` has no encoded form, else those of [`Cache::set`].
    fn set_as<T: Payload>(
        &self,
        key: &str,
        value: &T,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send {
        async move { self.set(key, value.encode()?, options).await }
    }
}

impl<C: Cache + ?Sized> CacheExt for C {}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;

    use super::*;
    use crate::{
        cache::{MemoryCache, testing::Faulty},
        event::Json,
    };

    #[derive(Clone, PartialEq, prost::Message)]
    struct Asset {
        #[prost(string, tag = "1")]
        symbol: String,
    }

    const FOR_EVER: SetOptions = SetOptions::no_expiry();

    #[tokio::test]
    async fn cch_2_3_messages_are_stored_in_wire_format_and_read_back() {
        let cache: Arc<dyn Cache> = Arc::new(MemoryCache::default());
        let asset = Asset { symbol: "BTC".into() };
        assert!(cache.set_as("a", &asset, FOR_EVER).await.unwrap());
        let wire = cache.get("a").await.unwrap().unwrap();
        assert_eq!(wire, prost::Message::encode_to_vec(&asset));
        assert_eq!(cache.get_as::<Asset>("a").await.unwrap(), Some(asset));
        cache.set_as("j", &Json(7), FOR_EVER).await.unwrap();
        assert_eq!(cache.get_as::<Json<i32>>("j").await.unwrap(), Some(Json(7)));
    }

    #[tokio::test]
    async fn cch_7_8_a_miss_and_a_failure_are_told_apart() {
        let cache = Faulty::new(MemoryCache::default());
        assert_eq!(cache.get_as::<Asset>("a").await.unwrap(), None);
        assert!(cache.get_required::<Asset>("a").await.unwrap_err().is_not_found());
        cache.fail_all(Some(&Error::temporary("connection refused")));
        assert!(cache.get_as::<Asset>("a").await.unwrap_err().is_temporary());
        assert!(cache.get_required::<Asset>("a").await.unwrap_err().is_temporary());
    }

    #[tokio::test(start_paused = true)]
    async fn k_04_what_cannot_be_decoded_is_a_miss_and_is_deleted() {
        let cache = Faulty::new(MemoryCache::default());
        let old = Bytes::from_static(b"\xff\xff");
        for fails in [true, false] {
            let options = SetOptions::ttl(Duration::from_secs(1));
            cache.set("a", old.clone(), options).await.unwrap();
            cache.fail("delete", fails.then(|| Error::temporary("connection refused")));
            assert_eq!(cache.get_as::<Asset>("a").await.unwrap(), None);
            assert_eq!(cache.exists("a").await.unwrap(), fails);
        }
    }

    #[tokio::test]
    async fn k_04_what_is_no_value_of_a_cache_is_a_miss_and_is_deleted() {
        let cache = Faulty::new(MemoryCache::default());
        cache.set("a", Bytes::new(), FOR_EVER).await.unwrap();
        let a_list = Error::invalid_input("a list").with_code(Code::FailedPrecondition);
        cache.fail("get", Some(a_list));
        assert_eq!(cache.get_as::<Asset>("a").await.unwrap(), None);
        assert!(!cache.exists("a").await.unwrap());
        cache.fail("get", None);
        let refused = cache.get_as::<Asset>("").await;
        assert!(refused.unwrap_err().is_invalid_input());
    }
}
