//! One piece of foreign work in a task of its own: its panic and its hanging stay its own.

use std::future::Future;

use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use crate::{Code, Error, Result};

/// Runs `work` until `deadline`. It is aborted then, or when the returned future is dropped.
pub(super) async fn isolated(
    what: &str,
    deadline: Instant,
    work: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<()> {
    let begun = Instant::now();
    let mut task = JoinSet::new();
    task.spawn(work);
    match timeout_at(deadline, task.join_next()).await {
        Ok(joined) => outcome(what, joined),
        Err(_) => Err(Error::timeout(deadline - begun).wrap(format!("{what} overran its deadline"))),
    }
}

/// What became of a task: its own result, or the panic or abort that ended it, with the work's name.
pub(super) fn outcome(what: &str, joined: Option<Result<Result<()>, JoinError>>) -> Result<()> {
    match joined {
        Some(Ok(result)) => result.map_err(|error| error.wrap(format!("{what} failed"))),
        Some(Err(error)) if error.is_panic() => Err(Error::panicked(what)),
        Some(Err(_)) | None => {
            Err(Error::temporary(format!("{what} was aborted")).with_code(Code::Cancelled))
        }
    }
}

/// Several errors as one, which has the first one's kind and code and tells all their causes. `None` when there are none.
pub(super) fn together(summary: &str, errors: &[Error]) -> Option<Error> {
    let first = errors.first()?;
    let all: Vec<String> = errors.iter().map(|error| error.chain().to_string()).collect();
    let joined = Error::new(first.kind(), format!("{summary}: {}", all.join("; ")));
    Some(match first.code() {
        Some(code) => joined.with_code(code),
        None => joined,
    })
}
