//! Three servers that need each other.

use std::{net::SocketAddr, thread};

use cqi_testkit::{
    fixture::{self, Kind, Options, Server},
    proxy::{Direction, Proxy},
};

/// Free addresses at which three servers hear each other.
pub(crate) fn three_addresses() -> [SocketAddr; 3] {
    [(); 3].map(|()| fixture::free_address().unwrap())
}

/// Three servers, started at the same time, as one alone answers nobody: what `options` says for each of 0, 1 and 2.
/// `None` after saying that the test is skipped.
///
/// Blocks.
pub(crate) fn start_three(kind: Kind, options: impl Fn(usize) -> Options) -> Option<Vec<Server>> {
    let options: Vec<_> = (0..3).map(options).collect();
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

/// The ways between servers, one for each direction, so that a cluster can be cut in two.
pub(crate) struct Links(Vec<Vec<Proxy>>);

impl Links {
    /// Ways to servers that hear each other at these addresses.
    pub(crate) async fn between(addresses: &[SocketAddr]) -> Self {
        let mut links = Vec::new();
        for _ in addresses {
            let mut to = Vec::new();
            for address in addresses {
                to.push(Proxy::start(*address).await.unwrap());
            }
            links.push(to);
        }
        Self(links)
    }

    /// Where one server finds another.
    pub(crate) fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.0[from][to].address()
    }

    /// Nothing gets through between this server and the others, until it is healed; nobody is told.
    pub(crate) fn isolate(&self, server: usize) {
        for (from, links) in self.0.iter().enumerate() {
            for (to, link) in links.iter().enumerate() {
                if (from == server) != (to == server) {
                    link.black_hole(Direction::Both);
                }
            }
        }
    }

    /// All gets through again, and what was held back too.
    pub(crate) async fn heal(&self) {
        for link in self.0.iter().flatten() {
            link.heal().await;
        }
    }
}
