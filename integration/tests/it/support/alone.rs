//! A test in a process of its own: for what is counted or set per process, which tests beside it would disturb.

use std::process::Command;

use tokio::runtime::Builder;

/// Set in the process that runs the body.
const MARK: &str = "CQI_TEST_ALONE";

/// Runs `body` on two workers, in a new process of this test program that runs only the test of this name.
///
/// # Panics
/// When `body` does, with everything the process printed.
pub(crate) fn alone<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F) {
    alone_on(name, Builder::new_multi_thread().worker_threads(2), body);
}

/// As [`alone`], on this runtime.
///
/// # Panics
/// As [`alone`].
pub(crate) fn alone_on<F: Future<Output = ()>>(name: &str, runtime: &mut Builder, body: impl FnOnce() -> F) {
    if std::env::var_os(MARK).is_some() {
        return runtime.enable_all().build().unwrap().block_on(body());
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("1 passed"),
        "{name} is no test of this program:\n{text}"
    );
}
