//! What the cases of this suite are written with.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cqi_core::cache::{Cache, Condition, SetOptions};

use super::CacheHarness;
use crate::{
    conformance::{Failure, Outcome, Profile, ensure_eq},
    unique,
};

pub(super) const FOR_EVER: SetOptions = SetOptions::no_expiry();

/// A cache, a key of its own, and the profile.
pub(super) struct Scene {
    pub(super) cache: Arc<dyn Cache>,
    pub(super) key: String,
    pub(super) profile: Profile,
}

impl Scene {
    pub(super) async fn new<H: CacheHarness>(h: &H) -> Result<Self, Failure> {
        Ok(Self {
            cache: h.connect().await?,
            key: unique("key"),
            profile: h.profile(),
        })
    }

    /// A time to live that every cache can keep: one step, in whole units of its resolution.
    pub(super) fn ttl(&self) -> Duration {
        let resolution = self.cache.capabilities().ttl_resolution;
        self.profile.step.max(resolution)
    }

    /// A time after which an entry of that time to live is surely gone.
    pub(super) fn after_ttl(&self) -> Duration {
        self.ttl() + self.cache.capabilities().ttl_resolution + Duration::from_millis(1)
    }

    pub(super) async fn set(&self, value: &str, options: SetOptions) -> Result<bool, Failure> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        Ok(self.cache.set(&self.key, value, options).await?)
    }

    pub(super) async fn set_if(&self, value: &str, condition: Condition) -> Result<bool, Failure> {
        self.set(value, FOR_EVER.when(condition)).await
    }

    /// Checks what `get` and `exists` say of the key.
    pub(super) async fn holds(&self, expected: Option<&str>, when: &str) -> Outcome {
        let seen = self.cache.get(&self.key).await?;
        let expected = expected.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        ensure_eq!(seen, expected, "get {when}");
        ensure_eq!(
            self.cache.exists(&self.key).await?,
            expected.is_some(),
            "exists {when}"
        );
        Ok(())
    }
}
