//! Which faults are on.

use std::{future::pending, net::SocketAddr, time::Duration};

use tokio::sync::watch;

use super::Direction;

/// Connections are numbered as they are accepted, so "below" a number are those that were there at a time.
#[derive(Debug)]
pub(super) struct Faults {
    /// Where new connections lead.
    pub(super) upstream: SocketAddr,
    pub(super) up: Flow,
    pub(super) down: Flow,
    pub(super) refuses: bool,
    pub(super) cut_below: u64,
    pub(super) reset_below: u64,
}

/// The faults of one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow {
    pub(super) stalled_below: u64,
    pub(super) closed_below: u64,
    pub(super) delay: (Duration, Duration),
    pub(super) slices: bool,
    /// The number of this order, and after how many bytes to cut.
    pub(super) cut: Option<(u64, u64)>,
    /// How many such orders there were.
    pub(super) orders: u64,
}

impl Faults {
    pub(super) fn none(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            up: Flow::default(),
            down: Flow::default(),
            refuses: false,
            cut_below: 0,
            reset_below: 0,
        }
    }

    pub(super) fn each(&mut self, direction: Direction, change: impl Fn(&mut Flow)) {
        if direction != Direction::Down {
            change(&mut self.up);
        }
        if direction != Direction::Up {
            change(&mut self.down);
        }
    }

    /// What struck connections at a moment stays as it was: those connections are ended.
    pub(super) fn heal(&mut self) {
        self.refuses = false;
        self.each(Direction::Both, |flow| {
            *flow = Flow {
                closed_below: flow.closed_below,
                orders: flow.orders,
                ..Flow::default()
            };
        });
    }
}

/// How one connection sees the faults.
#[derive(Debug, Clone)]
pub(super) struct View {
    faults: watch::Receiver<Faults>,
    number: u64,
    up: bool,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In the orderly way.
    Closed,
    /// With a reset.
    Reset,
}

impl View {
    pub(super) fn new(faults: watch::Receiver<Faults>, number: u64) -> Self {
        Self {
            faults,
            number,
            up: true,
        }
    }

    pub(super) fn down(&self) -> Self {
        Self {
            up: false,
            ..self.clone()
        }
    }

    /// Where it is to lead.
    pub(super) fn upstream(&self) -> SocketAddr {
        self.faults.borrow().upstream
    }

    /// The faults of its direction now.
    pub(super) fn flow(&self) -> Flow {
        let faults = self.faults.borrow();
        if self.up {
            faults.up.clone()
        } else {
            faults.down.clone()
        }
    }

    /// Returns when bytes may pass.
    pub(super) async fn passable(&mut self) {
        let (number, up) = (self.number, self.up);
        self.until(|faults| number >= if up { &faults.up } else { &faults.down }.stalled_below)
            .await;
    }

    /// Returns when its direction is to be closed.
    pub(super) async fn closed(&mut self) {
        let (number, up) = (self.number, self.up);
        self.until(|faults| number < if up { &faults.up } else { &faults.down }.closed_below)
            .await;
    }

    /// Returns when the connection is to end.
    pub(super) async fn ended(&mut self) -> End {
        let number = self.number;
        self.until(|faults| number < faults.cut_below.max(faults.reset_below))
            .await;
        if number < self.faults.borrow().reset_below {
            End::Reset
        } else {
            End::Closed
        }
    }

    async fn until(&mut self, condition: impl Fn(&Faults) -> bool + Send + Sync) {
        let gone = self.faults.wait_for(|faults| condition(faults)).await.is_err();
        if gone {
            // With the proxy its tasks end too.
            pending::<()>().await;
        }
    }
}
