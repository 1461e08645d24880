//! A checker with faults.

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{Result, health::Checker};

use super::Faults;

/// A [`Checker`] with faults.
#[derive(Debug)]
pub struct FaultyChecker {
    inner: Arc<dyn Checker>,
    faults: Faults,
}

impl FaultyChecker {
    /// Puts faults around a checker.
    pub fn new(inner: Arc<dyn Checker>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Checker for FaultyChecker {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn check(&self) -> Result<()> {
        self.faults
            .run("check", self.inner.name(), self.inner.check())
            .await
    }
}
