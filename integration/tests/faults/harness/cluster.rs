//! Three servers that need each other.

use std::{net::SocketAddr, thread};

use cqi_testkit::fixture::{self, Kind, Options, Server};

/// Three servers, started at the same time, as one alone answers nobody: what `options` says for each of 0, 1 and 2, given
/// a free address for each. `None` after saying that the test is skipped.
///
/// Blocks.
pub(crate) fn start_three(
    kind: Kind,
    options: impl Fn(usize, &[SocketAddr]) -> Options,
) -> Option<Vec<Server>> {
    let addresses: Vec<_> = (0..3).map(|_| fixture::free_address().unwrap()).collect();
    let options: Vec<_> = (0..3).map(|n| options(n, &addresses)).collect();
    let started: Result<Vec<_>, _> = thread::scope(|scope| {
        let start = |options| scope.spawn(move || fixture::start(kind, options));
        let starting: Vec<_> = options.iter().map(start).collect();
        let ended = starting.into_iter().map(|server| server.join().unwrap());
        ended.collect()
    });
    started
        .map_err(|missing| fixture::skip(&missing.to_string()))
        .ok()
}
