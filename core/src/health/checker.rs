//! The checker port: one question to one dependency.

use std::{fmt, future::Future};

use async_trait::async_trait;

use crate::Result;

/// Checks one dependency. Adapters with a connection implement it; any async function is one by [`check_fn`].
///
/// # Behaviour
/// - `check` asks anew each time and never latches: up, down and up again are all reported.
/// - `check` may hang or panic; whoever calls it bounds and isolates it (see `Health`).
#[async_trait]
pub trait Checker: fmt::Debug + Send + Sync + 'static {
    /// A short name, `[a-z][a-z0-9_-]*`, for example `database`.
    fn name(&self) -> &str;

    /// Asks whether the dependency works.
    ///
    /// # Errors
    /// Why it does not; the message is shown to operators.
    async fn check(&self) -> Result<()>;
}

/// Makes a checker of an async function.
pub fn check_fn<F, Fut>(name: impl Into<String>, check: F) -> impl Checker
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    CheckFn {
        name: name.into(),
        check,
    }
}

struct CheckFn<F> {
    name: String,
    check: F,
}

impl<F> fmt::Debug for CheckFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckFn").field(&self.name).finish()
    }
}

#[async_trait]
impl<F, Fut> Checker for CheckFn<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Result<()> {
        (self.check)().await
    }
}

const _: fn(&dyn Checker) = |_| ();
