//! One case, and running it.

use std::{fmt, future::Future, panic::AssertUnwindSafe, task::Poll, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{runtime, time::timeout};

use super::{Clock, Failure, Outcome, Profile, evidence};
use crate::fixture::skip_test;

/// How long a whole case may take before it counts as hanging.
const WHOLE_CASE: Duration = Duration::from_secs(300);

/// A case of a suite, as data.
pub struct Case<H: ?Sized> {
    /// The function's name.
    pub name: &'static str,
    /// The file it stands in.
    pub theme: &'static str,
    /// Whether it needs several threads, and so runs under the real clock even where the adapter's is paused.
    pub threads: bool,
    pub(crate) body: for<'a> fn(&'a H) -> BoxFuture<'a, Outcome>,
}

impl<H: ?Sized> fmt::Debug for Case<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.theme, self.name)
    }
}

/// Runs one case on a runtime of its own. A panic and a hang are failures like any other.
///
/// Blocks the calling thread; not for use inside a runtime.
///
/// # Errors
/// Why the case failed.
pub fn run<H: ?Sized>(profile: Profile, harness: &H, case: &Case<H>) -> Outcome {
    block_on(profile, case.threads, (case.body)(harness))
}

pub(crate) fn block_on<F: Future<Output = Outcome>>(profile: Profile, threads: bool, body: F) -> Outcome {
    let mut builder = if profile.clock == Clock::Paused && !threads {
        let mut builder = runtime::Builder::new_current_thread();
        builder.start_paused(true);
        builder
    } else {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(4);
        builder
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        match timeout(WHOLE_CASE, AssertUnwindSafe(body).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Failure::new(format!("panicked: {}", panic_text(&*panic)))),
            Err(_) => Err(Failure::new(format!("hangs: not finished within {WHOLE_CASE:?}"))),
        }
    });
    runtime.shutdown_background();
    outcome
}

/// Polls a future until it is ready or has been woken `steps` times; then drops it. So a sweep over `steps` cancels a call
/// at every point where it waits.
pub(crate) async fn cut<F: Future>(future: F, steps: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = steps;
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Turns a failed case into a failed test. One that does not apply passes and says so on standard error.
///
/// # Panics
/// When the case failed; that is its purpose.
#[track_caller]
pub fn assert_passed(name: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => {}
        #[allow(clippy::print_stderr)] // a test that did not test must not pass unseen
        Err(failure) if failure.is_not_applicable() => eprintln!("{name}: not applicable: {failure}"),
        Err(failure) => panic!("{name}: {failure}"),
    }
}

/// Whether the harness says that its adapter can't be tested here; then the test says that it is skipped.
pub(crate) fn skipped(missing: Option<String>, name: &str) -> bool {
    let Some(why) = missing else { return false };
    let thread = std::thread::current();
    // The runner names the thread after the test, with its module; on its own thread it does not.
    let test = thread.name().filter(|test| test.ends_with(name)).unwrap_or(name);
    skip_test(test, &why);
    true
}

/// Runs the case of this name as a test, and keeps its verdict as evidence for this port and adapter.
#[track_caller]
pub(crate) fn check_case<H>(
    profile: Profile,
    harness: &H,
    cases: &[Case<H>],
    name: &str,
    (port, adapter): (&str, &str),
) {
    let outcome = match cases.iter().enumerate().find(|(_, case)| case.name == name) {
        Some((at, case)) => {
            let outcome = run(profile, harness, case);
            evidence::case(port, adapter, at, case.theme, name, &outcome);
            outcome
        }
        None => Err(Failure::new("no such case")),
    };
    assert_passed(name, outcome);
}
