//! A registry under a policy.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use tracing::{Span, field::Empty};
use uuid::Uuid;

use super::{Instance, Registry, ServiceInfo, Watch};
use crate::{
    Result,
    policy::{Policy, Repeat},
};

/// A registry whose every call has a deadline, is repeated where that is safe, and is observed. When the current trace is
/// recorded, every call has a span (`registry.discover`, …).
///
/// Registering is repeated only after a failure that certainly had no effect, since each registration makes a new
/// instance. A running watch is not under the policy: it waits as long as nothing changes.
#[derive(Debug, Clone)]
pub struct GuardedRegistry {
    registry: Arc<dyn Registry>,
    policy: Policy,
}

impl GuardedRegistry {
    /// Puts `registry` under `policy`.
    pub fn new(registry: Arc<dyn Registry>, policy: Policy) -> Self {
        Self { registry, policy }
    }
}

/// The span of a call, if its trace is recorded. Names are constants, so this is a macro.
macro_rules! span {
    ($policy:expr, $name:literal $(, $service:expr)?) => {
        if $policy.records_trace() {
            tracing::info_span!($name, $(registry.service.name = $service,)? error.type = Empty)
        } else {
            Span::none()
        }
    };
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for GuardedRegistry {
    async fn register(&self, info: ServiceInfo) -> Result<Instance> {
        let span = span!(self.policy, "registry.register", info.name);
        let attempt = || self.registry.register(info.clone());
        self.policy
            .call_in(span, "registry.register", Repeat::Unsafe, attempt)
            .await
    }

    async fn deregister(&self, id: Uuid) -> Result<()> {
        let span = span!(self.policy, "registry.deregister");
        let may_be_gone = &AtomicBool::new(false);
        let attempt = || async move {
            let result = self.registry.deregister(id).await;
            match &result {
                // An earlier attempt has removed it and only its reply was lost.
                Err(error) if error.is_not_found() && may_be_gone.load(Ordering::Relaxed) => return Ok(()),
                Err(error) if error.may_have_applied() => may_be_gone.store(true, Ordering::Relaxed),
                _ => {}
            }
            result
        };
        self.policy
            .call_in(span, "registry.deregister", Repeat::Safe, attempt)
            .await
    }

    async fn heartbeat(&self, id: Uuid) -> Result<()> {
        let span = span!(self.policy, "registry.heartbeat");
        let attempt = || self.registry.heartbeat(id);
        self.policy
            .call_in(span, "registry.heartbeat", Repeat::Safe, attempt)
            .await
    }

    async fn discover(&self, name: &str) -> Result<Vec<Instance>> {
        let span = span!(self.policy, "registry.discover", name);
        let attempt = || self.registry.discover(name);
        self.policy
            .call_in(span, "registry.discover", Repeat::Safe, attempt)
            .await
    }

    async fn watch(&self, name: &str) -> Result<Box<dyn Watch>> {
        let span = span!(self.policy, "registry.watch", name);
        let attempt = || self.registry.watch(name);
        self.policy
            .call_in(span, "registry.watch", Repeat::Safe, attempt)
            .await
    }

    async fn ping(&self) -> Result<()> {
        let span = span!(self.policy, "registry.ping");
        let attempt = || self.registry.ping();
        self.policy
            .call_in(span, "registry.ping", Repeat::Safe, attempt)
            .await
    }

    async fn close(&self) -> Result<()> {
        let span = span!(self.policy, "registry.close");
        let attempt = || self.registry.close();
        self.policy
            .call_in(span, "registry.close", Repeat::Safe, attempt)
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Code, Error, policy::Retry, registry::testing::Faulty};

    fn guarded() -> (Arc<Faulty>, GuardedRegistry) {
        let faulty = Arc::new(Faulty::default());
        let registry: Arc<dyn Registry> = Arc::<Faulty>::clone(&faulty);
        let policy = Policy::new(Duration::from_secs(20), Retry::default());
        (faulty, GuardedRegistry::new(registry, policy))
    }

    fn info() -> ServiceInfo {
        ServiceInfo::new("a", "1", "127.0.0.1", 1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_whose_reply_is_lost_is_not_repeated() {
        let (faulty, registry) = guarded();
        faulty.lose_a_reply();
        assert!(registry.register(info()).await.unwrap_err().may_have_applied());
        assert_eq!(faulty.calls("register"), 1);
        faulty.fail(Some(Error::temporary("connection refused")));
        assert!(registry.register(info()).await.is_err());
        assert_eq!(faulty.calls("register"), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deregistration_whose_reply_is_lost_succeeds() {
        let (faulty, registry) = guarded();
        let id = registry.register(info()).await.unwrap().id;
        faulty.lose_a_reply();
        registry.deregister(id).await.unwrap();
        assert_eq!(faulty.calls("deregister"), 2);
        assert!(registry.deregister(id).await.unwrap_err().is_not_found());
    }

    #[tokio::test(start_paused = true)]
    async fn reads_are_repeated_and_calls_that_hang_are_cut() {
        let (faulty, registry) = guarded();
        faulty.lose_a_reply();
        assert_eq!(registry.discover("a").await.unwrap(), []);
        assert_eq!(faulty.calls("discover"), 2);
        faulty.hang(true);
        let error = registry.watch("a").await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Timeout));
    }
}
