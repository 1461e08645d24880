//! Waiting for a condition, not for a time.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use crate::conformance::Failure;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` gives `Ok`, and returns what it gave; fails after `limit` with what was last seen.
///
/// Time is tokio's, so a test with a paused clock waits no real time. At least two looks are made. Cancel-safe if `look` is.
///
/// # Errors
/// A [`Failure`] naming `what`, the limit and the last `Err`.
///
/// ```
/// # use std::time::Duration;
/// use cqi_testkit::eventually;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), cqi_testkit::conformance::Failure> {
/// let mut looks = 0;
/// let seen = eventually("three looks", Duration::from_secs(1), || {
///     looks += 1;
///     let seen = looks;
///     async move { if seen == 3 { Ok(seen) } else { Err(seen) } }
/// })
/// .await?;
/// assert_eq!(seen, 3);
/// # Ok(()) }
/// ```
pub async fn eventually<T, E, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Debug,
{
    let end = Instant::now() + limit;
    loop {
        let last_look = Instant::now() >= end;
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(seen) if last_look => {
                return Err(Failure::new(format!(
                    "{what}: not within {limit:?}; last seen: {seen:?}"
                )));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
