//! What is known of the request that is being handled, below its handler too, and for calls that it makes.
//!
//! Servers run a handler in a [`Scope`]; clients ask [`Scope::current`] for what a call takes along, whatever the
//! protocols of the two. It holds for the task: one that a handler spawns is outside, unless it enters a scope itself.
//!
//! ```
//! # use std::time::Duration;
//! # use cqi_core::request::{Scope, remaining_time};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let scope = Scope::default().within(Duration::from_secs(3));
//! let left = scope.run(async { remaining_time() }).await;
//! assert!(left.is_some_and(|left| left <= Duration::from_secs(3)));
//! assert_eq!(remaining_time(), None);
//! # });
//! ```

mod id;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::id::{RequestId, RequestIds};
use crate::secret::Secret;

tokio::task_local! {
    static CURRENT: Scope;
}

/// The request that is being handled. Cheap to clone; nothing is allocated for that.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct Scope {
    limit: Limit,
    /// Its id.
    pub id: Option<RequestId>,
    /// The credential that it came with, if that was accepted.
    pub credential: Option<Arc<Secret>>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Limit {
    #[default]
    None,
    At(Instant),
    Within(Duration),
}

impl Scope {
    /// The scope of this task; an empty one outside of a request.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Sets when nobody waits for the answer any more. `None`: at no time.
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.limit = deadline.map_or(Limit::None, Limit::At);
        self
    }

    /// Sets how long the answer is waited for, from whenever it is asked, and spares reading the clock until then: for a
    /// step whose time is counted from its end, as is that of a handler which may well be through with its first step.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Limit::Within(limit);
        self
    }

    /// Sets the id.
    pub fn with_id(mut self, id: RequestId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the credential.
    pub fn with_credential(mut self, credential: Arc<Secret>) -> Self {
        self.credential = Some(credential);
        self
    }

    /// When nobody waits for the answer any more. `None` when nobody said.
    pub fn deadline(&self) -> Option<Instant> {
        match self.limit {
            Limit::None => None,
            Limit::At(deadline) => Some(deadline),
            // A time that is too long for the clock is no deadline.
            Limit::Within(limit) => Instant::now().checked_add(limit),
        }
    }

    /// Runs a handler in this scope, which replaces the one around it.
    ///
    /// Cancel safety: that of `work`, which is dropped inside the scope.
    pub fn run<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// Runs one step of a handler in this scope: one poll of its future.
    pub fn step<T>(&self, step: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), step)
    }
}

/// How much time is left for the request or event that this task handles: its caller waits no longer, or the server does
/// not. `None` when nobody set a limit, outside of a request, and in tasks that its handler has spawned.
///
/// In the response of a gRPC stream only the caller's own limit counts.
pub fn remaining_time() -> Option<Duration> {
    let deadline = CURRENT.try_with(Scope::deadline).ok()??;
    Some(deadline.saturating_duration_since(Instant::now()))
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn f_net_03_a_scope_is_known_inside_of_it_only_and_its_time_runs() {
        let scope = Scope::default()
            .until(Some(Instant::now() + 3 * SECOND))
            .with_id(RequestId::parse("mine").unwrap())
            .with_credential(Arc::new("canary".into()));
        let inside = async {
            tokio::time::sleep(SECOND).await;
            let mut tasks = JoinSet::new();
            tasks.spawn(async { remaining_time() });
            let spawned = tasks.join_next().await.unwrap().unwrap();
            (Scope::current(), remaining_time(), spawned)
        };
        let (current, left, spawned) = scope.clone().run(inside).await;
        assert_eq!(current.id.as_ref().map(RequestId::as_str), Some("mine"));
        assert_eq!(
            current.credential.as_ref().map(|secret| secret.expose()),
            Some("canary")
        );
        assert!(!format!("{current:?}").contains("canary"), "{current:?}");
        assert_eq!((left, spawned), (Some(2 * SECOND), None));
        // A step has it too; what is over is over.
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(scope.step(remaining_time), Some(Duration::ZERO));
        assert_eq!((remaining_time(), Scope::current().deadline()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_without_a_start_counts_from_whenever_it_is_asked() {
        let scope = Scope::default().within(SECOND);
        tokio::time::sleep(SECOND).await;
        assert_eq!(scope.step(remaining_time), Some(SECOND));
        assert_eq!(Scope::default().within(Duration::MAX).deadline(), None);
    }

    #[tokio::test]
    async fn an_inner_scope_replaces_the_outer_one_until_its_end() {
        let outer = Scope::default().within(SECOND);
        let (inner, after) = outer
            .run(async {
                (
                    Scope::default().run(async { remaining_time() }).await,
                    remaining_time(),
                )
            })
            .await;
        assert_eq!(inner, None);
        assert!(after.is_some());
    }
}
