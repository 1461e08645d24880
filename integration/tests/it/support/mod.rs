//! Processes of the examples, an HTTP client, clients in Python, and waiting.

mod alone;
mod client;
mod positions;
mod process;
mod program;
mod python;

use std::{fmt::Debug, future::ready, path::Path, time::Duration};

use cqi_testkit::eventually;
use tempfile::TempDir;

pub(crate) use self::{
    alone::{alone, alone_on},
    client::{Answer, Client, ask},
    positions::{Tables, position, post, summary},
    process::{Ended, Process},
    program::Program,
    python::{has_python, packages, python},
};

/// The longest that any single wait of a test may take. Far above what is ever seen, so that a loaded machine does not
/// fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `look` gives `Ok`.
///
/// # Panics
/// After [`PATIENCE`], with what was last seen.
pub(crate) async fn until<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    eventually(what, PATIENCE, || ready(look()))
        .await
        .unwrap_or_else(|failure| panic!("{failure}"))
}

/// A folder for a database, in memory where the system has such a place: every commit is synchronised, and on a slow
/// disk that would be nearly all the time of a test with thousands of them.
pub(crate) fn database_folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() {
        tempfile::tempdir_in(in_memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}
