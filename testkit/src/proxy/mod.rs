//! A TCP proxy with faults, between a client and a server.
//!
//! ```
//! # use std::{io, net::SocketAddr, time::Duration};
//! use cqi_testkit::proxy::{Direction, Proxy};
//!
//! # async fn test(server: SocketAddr) -> io::Result<()> {
//! let proxy = Proxy::start(server).await?;
//! // ... a client connects to `proxy.address()` ...
//! proxy.black_hole(Direction::Down); // requests arrive, answers don't
//! // ... the client must give up in time ...
//! proxy.heal().await;
//! # Ok(()) }
//! ```
//!
//! Faults add up until [`Proxy::heal`]. Those of a state hold for new connections as well; those of a moment
//! ([`Proxy::cut`], [`Proxy::reset`], [`Proxy::half_close`]) strike the connections that are open. Delays are real time:
//! not for tests with a paused clock.

mod connection;
mod faults;
mod listen;
mod pump;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use self::faults::Faults;
use crate::fixture::free_address;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Both ways.
    Both,
}

/// A TCP proxy, on a free port of the loopback address unless told otherwise. Dropping it ends its tasks and closes its
/// connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    refusing: watch::Receiver<bool>,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicUsize,
}

impl Proxy {
    /// Starts one that passes everything on to this server, which need not be there yet.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_at(free_address()?, upstream).await
    }

    /// As [`Proxy::start`], at this address: for servers that find each other by addresses which are fixed beforehand.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start_at(address: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let mut listener = listen::Listener::new(address)?;
        let (faults, seen) = watch::channel(Faults::none(upstream));
        let (refuses, refusing) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let mut proxy = Self {
            address: listener.address(),
            faults,
            refusing,
            counts: Arc::clone(&counts),
            tasks: JoinSet::new(),
        };
        proxy.tasks.spawn(async move {
            listener.run(seen, &refuses, &counts).await;
        });
        Ok(proxy)
    }

    /// Where clients connect. It stays the same while connections are refused.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another server, for one that must know the proxy's address before it starts, or to move
    /// clients. Open connections stay where they are.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.set(|faults| faults.upstream = upstream);
    }

    /// How many connections have been accepted so far. Looking at it twice tells whether a client has reconnected.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Holds back all bytes of this direction, and its end, on all connections; connecting still works. What was held
    /// back arrives after [`Proxy::heal`].
    pub fn black_hole(&self, direction: Direction) {
        self.set(|faults| faults.each(direction, |flow| flow.stalled_below = u64::MAX));
    }

    /// As [`Proxy::black_hole`], for the connections that are open now; new ones work. So it looks when a firewall forgets
    /// a connection.
    pub fn black_hole_old(&self, direction: Direction) {
        let next = self.accepted();
        self.set(|faults| {
            faults.each(direction, |flow| {
                flow.stalled_below = flow.stalled_below.max(next)
            })
        });
    }

    /// Delays all bytes of both directions by this time. Throughput stays.
    pub fn latency(&self, delay: Duration) {
        self.latency_with_jitter(delay, Duration::ZERO);
    }

    /// As [`Proxy::latency`], and up to `jitter` more, differently each time. Bytes stay in order.
    pub fn latency_with_jitter(&self, delay: Duration, jitter: Duration) {
        self.set(|faults| faults.each(Direction::Both, |flow| flow.delay = (delay, jitter)));
    }

    /// Passes the bytes of both directions one by one, each in a write of its own.
    pub fn slice(&self) {
        self.set(|faults| faults.each(Direction::Both, |flow| flow.slices = true));
    }

    /// Closes each connection, in both directions, once this many more bytes have passed in this one; with
    /// [`Direction::Both`] as soon as they have in either. A connection opened later counts from its beginning.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.set(|faults| {
            faults.each(direction, |flow| {
                flow.orders += 1;
                flow.cut = Some((flow.orders, bytes));
            });
        });
    }

    /// Closes the open connections towards both sides, in the orderly way of TCP; bytes under way are lost.
    pub fn cut(&self) {
        let next = self.accepted();
        self.set(|faults| faults.cut_below = next);
    }

    /// Resets the open connections towards both sides, as when a process was killed with unread data.
    pub fn reset(&self) {
        let next = self.accepted();
        self.set(|faults| faults.reset_below = next);
    }

    /// Ends this direction of the open connections: its receiver sees the end, what its sender still sends is lost. The
    /// other direction works on.
    pub fn half_close(&self, direction: Direction) {
        let next = self.accepted();
        self.set(|faults| faults.each(direction, |flow| flow.closed_below = next));
    }

    /// Refuses new connections; open ones work on. Returns when it does. Cancel-safe.
    pub async fn refuse(&self) {
        self.set(|faults| faults.refuses = true);
        self.until_refusing(true).await;
    }

    /// Ends every fault that is a state. Returns when new connections are accepted. Cancel-safe.
    pub async fn heal(&self) {
        self.set(Faults::heal);
        self.until_refusing(false).await;
    }

    /// Closes all connections and ends its tasks; returns when they have ended.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
    }

    async fn until_refusing(&self, wanted: bool) {
        // It ends early only with the task that listens.
        let _ = self
            .refusing
            .clone()
            .wait_for(|refusing| *refusing == wanted)
            .await;
    }
}
