//! Names that no other test uses.

use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

/// A name that no other test, run or machine uses: `prefix_` and 16 characters out of `[a-z0-9]`.
///
/// It fits topics, consumer groups, tables and cache keys, so tests can share one server without cleaning up.
///
/// ```
/// assert_ne!(cqi_testkit::unique("orders"), cqi_testkit::unique("orders"));
/// ```
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let run = Uuid::new_v4().simple().to_string();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{}{next:04x}", &run[..12])
}
