//! Whether the registry answers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::Registry;
use crate::{Error, Result, health::Checker};

/// Checks a registry by [`Registry::ping`], under a timeout of 5 seconds.
#[derive(Debug, Clone)]
pub struct RegistryChecker {
    registry: Arc<dyn Registry>,
    timeout: Duration,
}

impl RegistryChecker {
    /// A checker named `registry`.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self {
            registry,
            timeout: Duration::from_secs(5),
        }
    }

    /// Changes the timeout.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

#[async_trait]
impl Checker for RegistryChecker {
    fn name(&self) -> &str {
        "registry"
    }

    async fn check(&self) -> Result<()> {
        tokio::time::timeout(self.timeout, self.registry.ping())
            .await
            .unwrap_or_else(|_| Err(Error::timeout(self.timeout).with_operation("registry.ping")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, registry::testing::Faulty};

    #[tokio::test(start_paused = true)]
    async fn up_down_and_up_again_are_all_reported() {
        let registry = Arc::new(Faulty::default());
        let checker = RegistryChecker::new(Arc::<Faulty>::clone(&registry));
        assert_eq!(checker.name(), "registry");
        checker.check().await.unwrap();
        registry.fail(Some(Error::temporary("connection refused")));
        assert_eq!(checker.check().await.unwrap_err().message(), "connection refused");
        registry.fail(None);
        checker.check().await.unwrap();
        registry.hang(true);
        assert_eq!(checker.check().await.unwrap_err().code(), Some(Code::Timeout));
    }
}
