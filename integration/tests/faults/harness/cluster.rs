//! Three servers that need each other.

use std::{net::SocketAddr, ops::Range, thread};

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

/// The ways from places to servers, so that what is at some of the places can be cut off from all else.
///
/// The places 0, 1 and 2 are the servers' own, others may be clients'.
#[derive(Default)]
pub(crate) struct Links(Vec<(usize, usize, Proxy)>);

impl Links {
    /// With the ways from each of these places to servers that listen here.
    pub(crate) async fn and(mut self, places: Range<usize>, servers: &[SocketAddr; 3]) -> Self {
        for from in places {
            for (to, server) in servers.iter().enumerate() {
                let proxy = Proxy::start_at(Self::address(from, to, *server), *server).await;
                self.0.push((from, to, proxy.unwrap()));
            }
        }
        self
    }

    /// Where the way from one place to a server begins, which listens here. Each has a loopback address of its own, with the
    /// server's port.
    pub(crate) fn address(from: usize, to: usize, server: SocketAddr) -> SocketAddr {
        let [from, to] = [from, to].map(|place| u8::try_from(place + 1).unwrap());
        ([127, 0, from, to], server.port()).into()
    }

    /// Nothing gets through between these places and all others, until it is healed; nobody is told.
    pub(crate) fn cut_off(&self, places: &[usize]) {
        for (from, to, proxy) in &self.0 {
            if places.contains(from) != places.contains(to) {
                proxy.black_hole(Direction::Both);
            }
        }
    }

    /// All gets through again, and what was held back too.
    pub(crate) async fn heal(&self) {
        for (_, _, proxy) in &self.0 {
            proxy.heal().await;
        }
    }
}
