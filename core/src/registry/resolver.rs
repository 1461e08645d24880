//! Picking an instance of a service to call.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Instance, Registry};
use crate::{Code, Error, Result, name::shown};

/// The longest that one call to the registry may take.
const CALL: Duration = Duration::from_secs(5);

/// Finds the instances of one service and gives them in turn. Cheap to clone; clones share all.
///
/// What [`Registry::discover`] said is used for a second (see [`Resolver::with_max_age`]); then one caller asks anew
/// while the others go on with what is known. While the registry is down the last known instances are used.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    registry: Arc<dyn Registry>,
    name: String,
    max_age: Duration,
    turn: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// `None` before the first answer.
    instances: Option<Arc<[Instance]>>,
    /// When the registry was last asked to an end, whatever it said.
    asked_at: Option<Instant>,
    /// Whether somebody is asking now.
    asking: bool,
    failing: bool,
}

impl Resolver {
    /// Resolves the service `name`.
    pub fn new(registry: Arc<dyn Registry>, name: impl Into<String>) -> Self {
        Self::with_max_age(registry, name, Duration::from_secs(1))
    }

    /// As [`Resolver::new`], with another age up to which an answer is used.
    pub fn with_max_age(registry: Arc<dyn Registry>, name: impl Into<String>, max_age: Duration) -> Self {
        Self(Arc::new(Inner {
            registry,
            name: name.into(),
            max_age,
            turn: AtomicUsize::new(0),
            known: Mutex::default(),
        }))
    }

    /// The next instance, round robin. Cancel-safe.
    ///
    /// # Errors
    /// `Temporary`/`Unavailable` when there is none; the registry's error when it has never answered.
    pub async fn pick(&self) -> Result<Instance> {
        let instances = self.instances().await?;
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        turn.checked_rem(instances.len())
            .and_then(|at| instances.get(at))
            .cloned()
            .ok_or_else(|| {
                Error::temporary("service has no running instance")
                    .with_code(Code::Unavailable)
                    .with_context("service", shown(&self.0.name))
            })
    }

    /// All instances in order of registration. Cancel-safe.
    ///
    /// # Errors
    /// The registry's error when it has never answered.
    pub async fn instances(&self) -> Result<Arc<[Instance]>> {
        let asking = {
            let mut known = self.0.lock();
            if let Some(instances) = &known.instances {
                let fresh = known.asked_at.is_some_and(|at| at.elapsed() < self.0.max_age);
                if fresh || known.asking {
                    return Ok(Arc::clone(instances));
                }
            }
            // Before the first answer there is nothing to go on with, so everybody asks.
            known.asking = true;
            Asking(&self.0)
        };
        let answer = timeout(CALL, self.0.registry.discover(&self.0.name))
            .await
            .unwrap_or_else(|_| Err(Error::timeout(CALL).with_operation("registry.discover")));
        let mut known = self.0.lock();
        known.asked_at = Some(Instant::now());
        let was_failing = std::mem::replace(&mut known.failing, answer.is_err());
        let result = match (answer, &known.instances) {
            (Ok(instances), _) => {
                let instances: Arc<[Instance]> = instances.into();
                known.instances = Some(Arc::clone(&instances));
                Ok(instances)
            }
            (Err(error), Some(last)) => {
                if !was_failing {
                    tracing::warn!(service = shown(&self.0.name), error = %error.chain(),
                        "the registry does not answer, using the last known instances");
                }
                Ok(Arc::clone(last))
            }
            (Err(error), None) => Err(error),
        };
        drop(known);
        drop(asking);
        result
    }
}

/// Ends the asking, also when the asker is cancelled.
struct Asking<'a>(&'a Inner);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().asking = false;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("name", &self.0.name)
            .field("max_age", &self.0.max_age)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::registry::{ServiceInfo, testing::Faulty};

    const SECOND: Duration = Duration::from_secs(1);

    fn resolver() -> (Arc<Faulty>, Resolver) {
        let faulty = Arc::new(Faulty::default());
        let registry: Arc<dyn Registry> = Arc::<Faulty>::clone(&faulty);
        (faulty, Resolver::new(registry, "a"))
    }

    async fn register(registry: &Faulty, port: u16) -> Instance {
        let info = ServiceInfo::new("a", "1", "127.0.0.1", port);
        registry.register(info).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn instances_take_turns_and_answers_are_kept_for_a_second() {
        let (registry, resolver) = resolver();
        for port in 1..=3 {
            register(&registry, port).await;
        }
        let mut picked = Vec::new();
        for _ in 0..7 {
            picked.push(resolver.pick().await.unwrap().info.port);
        }
        assert_eq!(picked, [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(registry.calls("discover"), 1);
        register(&registry, 4).await;
        advance(SECOND).await;
        assert_eq!(resolver.instances().await.unwrap().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn without_instances_there_is_a_clear_temporary_error() {
        let (registry, resolver) = resolver();
        let error = resolver.pick().await.unwrap_err();
        assert_eq!(
            (error.code(), error.is_temporary()),
            (Some(Code::Unavailable), true)
        );
        register(&registry, 1).await;
        advance(SECOND).await;
        resolver.pick().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_known_instances_outlive_an_outage() {
        let (registry, resolver) = resolver();
        registry.fail(Some(Error::temporary("connection refused")));
        assert_eq!(resolver.pick().await.unwrap_err().message(), "connection refused");
        registry.fail(None);
        register(&registry, 1).await;
        resolver.pick().await.unwrap();
        registry.fail(Some(Error::temporary("connection refused")));
        for _ in 0..10 {
            advance(SECOND).await;
            resolver.pick().await.unwrap();
            resolver.pick().await.unwrap();
        }
        // Once a second, also while it fails.
        assert_eq!(registry.calls("discover"), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_while_the_others_go_on_and_a_cancelled_asker_blocks_nobody() {
        let (registry, resolver) = resolver();
        register(&registry, 1).await;
        resolver.pick().await.unwrap();
        advance(SECOND).await;
        registry.hang(true);
        let mut asker = Box::pin(resolver.pick());
        assert!(futures::poll!(&mut asker).is_pending());
        resolver.pick().await.unwrap();
        drop(asker);
        // The next one asks; it goes on with what is known when its time is up.
        let started = Instant::now();
        resolver.pick().await.unwrap();
        assert_eq!(started.elapsed().as_secs(), CALL.as_secs());
        assert_eq!(registry.calls("discover"), 3);
    }
}
