//! The figures of one suite, as they come in.

use std::{
    fmt,
    io::{self, Write as _},
    process,
};

use crate::{
    args::{Args, Suite},
    measure::{Took, percentile},
};

/// Everything measured in one suite.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) suite: Suite,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
    args: Args,
    round: usize,
}

/// One figure of all peers.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: String,
    /// Bytes; 0 where it means nothing.
    pub(crate) payload: usize,
    pub(crate) unit: &'static str,
    /// Peers in the order they were first measured, with a sample per round.
    pub(crate) peers: Vec<(&'static str, Vec<f64>)>,
    pub(crate) target: Option<Target>,
}

/// What cqi's figure should be. Shown, never asserted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least this many times the peer's.
    AtLeast(f64, &'static str),
    /// At most this many times the peer's.
    AtMost(f64, &'static str),
    /// At most this much more than the peer's.
    Over(f64, &'static str),
    /// At most this.
    Below(f64),
    /// At least this.
    Above(f64),
}

impl Report {
    pub(crate) fn new(suite: Suite, args: &Args) -> Self {
        Self {
            suite,
            rows: Vec::new(),
            notes: Vec::new(),
            args: args.clone(),
            round: 0,
        }
    }

    pub(crate) fn start_round(&mut self, round: usize) {
        self.round = round;
    }

    /// How many rounds went before this one.
    pub(crate) fn round(&self) -> usize {
        self.round
    }

    /// Whether this is the first round.
    pub(crate) fn is_first_round(&self) -> bool {
        self.round == 0
    }

    /// The URLs of servers that may be up.
    pub(crate) fn servers(&self) -> &[String] {
        &self.args.servers
    }

    /// `base` operations at scale 1; at least 50.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count above 0"
    )]
    pub(crate) fn count(&self, base: usize) -> usize {
        ((base as f64 * self.args.scale) as usize).max(50)
    }

    /// The peers that take part, beginning with another one in each round, so that no one always comes first.
    pub(crate) fn peers(&self, all: &[&'static str]) -> Vec<&'static str> {
        let wanted = |peer: &&&str| self.args.peer.as_ref().is_none_or(|only| only == **peer);
        let mut peers: Vec<_> = all.iter().filter(wanted).copied().collect();
        if !peers.is_empty() {
            let first = self.round % peers.len();
            peers.rotate_left(first);
        }
        peers
    }

    /// Whether `peer` takes part.
    pub(crate) fn has(&self, peer: &'static str) -> bool {
        !self.peers(&[peer]).is_empty()
    }

    /// Takes one figure down, or prints it when lines are wanted.
    pub(crate) fn figure(
        &mut self,
        case: &str,
        peer: &'static str,
        payload: usize,
        value: f64,
        unit: &'static str,
    ) {
        if self.args.json {
            let suite = self.suite.title();
            say(serde_json::json!({
                "suite": suite, "case": case, "peer": peer, "payload": payload, "value": value, "unit": unit
            }));
            return;
        }
        let row = self.row(case, payload, unit);
        match row.peers.iter_mut().find(|(name, _)| *name == peer) {
            Some((_, samples)) => samples.push(value),
            None => row.peers.push((peer, vec![value])),
        }
    }

    /// Says what cqi's figure of a row should be.
    pub(crate) fn target(&mut self, case: &str, payload: usize, unit: &'static str, target: Target) {
        self.row(case, payload, unit).target = Some(target);
    }

    /// Says that a case of cqi is to be as fast as the bare `peer`'s, and to cost as much processor time.
    pub(crate) fn as_good_as(&mut self, case: &str, payload: usize, peer: &'static str) {
        self.target(case, payload, "op/s", Target::AtLeast(0.95, peer));
        self.target(
            &format!("{case} cpu"),
            payload,
            "us/op",
            Target::AtMost(1.1, peer),
        );
    }

    /// Takes down operations per second, which it returns, and processor time per operation.
    pub(crate) fn rate(
        &mut self,
        case: &str,
        peer: &'static str,
        payload: usize,
        ops: usize,
        took: Took,
    ) -> f64 {
        let rate = ops as f64 / took.wall.as_secs_f64();
        self.figure(case, peer, payload, rate, "op/s");
        let cpu = took.cpu.as_secs_f64() * 1e6 / ops as f64;
        self.figure(&format!("{case} cpu"), peer, payload, cpu, "us/op");
        rate
    }

    /// Takes down a percentile of latencies in nanoseconds.
    pub(crate) fn latency(
        &mut self,
        case: &str,
        peer: &'static str,
        payload: usize,
        p: usize,
        nanos: &mut [u64],
    ) {
        let value = percentile(nanos, p) as f64 / 1e3;
        self.figure(&format!("{case} p{p}"), peer, payload, value, "us");
    }

    /// A line under the table; each is said once.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn row(&mut self, case: &str, payload: usize, unit: &'static str) -> &mut Row {
        let same = |row: &Row| row.case == case && row.payload == payload && row.unit == unit;
        let at = self.rows.iter().position(same).unwrap_or_else(|| {
            self.rows.push(Row {
                case: case.to_owned(),
                payload,
                unit,
                peers: Vec::new(),
                target: None,
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(times, peer) => write!(f, "≥ {times:.2}x {peer}"),
            Self::AtMost(times, peer) => write!(f, "≤ {times:.2}x {peer}"),
            Self::Over(more, peer) => write!(f, "≤ {peer} + {more}"),
            Self::Below(most) => write!(f, "≤ {most}"),
            Self::Above(least) => write!(f, "≥ {least}"),
        }
    }
}

/// Prints a line. When nobody reads any more, there is nothing left to do.
pub(crate) fn say(line: impl fmt::Display) {
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(1);
    }
}
