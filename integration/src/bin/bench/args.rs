//! The command line.

use std::{path::PathBuf, str::FromStr};

use crate::http::Kind;

pub(crate) const HELP: &str = "\
usage: bench [SUITE...] [--json] [--rounds N] [--scale X] [--peer NAME]
       bench --programs DIR

Suites: inproc cache db log http overhead (default: all).

  --json          one JSON line per figure and round, instead of tables
  --rounds N      how often each figure is taken, all peers in turn (default 5, with --json 1)
  --scale X       multiplies the number of operations; 0.02 makes a smoke run (default 1)
  --peer NAME     only this peer, for example cqi
  --programs DIR  write a program per suite into DIR, which prints the JSON lines of cqi alone";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Args),
    Programs(PathBuf),
    /// What this program asks of itself in processes of their own: a server,
    Serve(Kind, u16),
    /// requests to a port over a number of connections,
    Load(u16, usize, usize),
    /// and a peer's log lines to a file.
    LogLines(String, String, usize),
}

/// What to measure, and how.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) suites: Vec<Suite>,
    pub(crate) json: bool,
    pub(crate) rounds: usize,
    pub(crate) scale: f64,
    pub(crate) peer: Option<String>,
}

/// One concern that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    Inproc,
    Cache,
    Db,
    Log,
    Http,
    Overhead,
}

impl Suite {
    pub(crate) const ALL: [Self; 6] = [
        Self::Inproc,
        Self::Cache,
        Self::Db,
        Self::Log,
        Self::Http,
        Self::Overhead,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inproc => "inproc",
            Self::Cache => "cache",
            Self::Db => "db",
            Self::Log => "log",
            Self::Http => "http",
            Self::Overhead => "overhead",
        }
    }

    /// Its name in the figures.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cache => "cache-memory",
            Self::Db => "db-sqlite",
            other => other.name(),
        }
    }
}

impl Args {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Command, String> {
        let mut args = args.peekable();
        let first = args.peek().cloned().unwrap_or_default();
        if matches!(&*first, "serve" | "load" | "log-line") {
            return inner(&first, &args.skip(1).collect::<Vec<_>>())
                .ok_or(format!("{first}: wrong arguments"));
        }
        let (mut suites, mut json, mut rounds, mut scale, mut peer) = (Vec::new(), false, None, 1.0, None);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(Command::Help),
                "--programs" => return Ok(Command::Programs(value()?.into())),
                "--json" => json = true,
                "--peer" => peer = Some(value()?),
                "--rounds" => rounds = Some(number(&arg, &value()?, |n: &usize| *n > 0)?),
                "--scale" => scale = number(&arg, &value()?, |x: &f64| *x > 0.0 && x.is_finite())?,
                name => match Suite::ALL.into_iter().find(|suite| suite.name() == name) {
                    Some(suite) => suites.push(suite),
                    None => return Err(format!("unknown argument {name:?}; --help lists them")),
                },
            }
        }
        if suites.is_empty() {
            suites.extend(Suite::ALL);
        }
        Ok(Command::Run(Self {
            suites,
            json,
            rounds: rounds.unwrap_or(if json { 1 } else { 5 }),
            scale,
            peer,
        }))
    }
}

fn inner(name: &str, args: &[String]) -> Option<Command> {
    let kind = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name);
    Some(match (name, args) {
        ("serve", [server, port]) => Command::Serve(kind(server)?, port.parse().ok()?),
        ("load", [port, connections, total]) => {
            Command::Load(port.parse().ok()?, connections.parse().ok()?, total.parse().ok()?)
        }
        ("log-line", [peer, output, total]) => {
            Command::LogLines(peer.clone(), output.clone(), total.parse().ok()?)
        }
        _ => return None,
    })
}

fn number<T: FromStr>(name: &str, text: &str, valid: impl Fn(&T) -> bool) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(valid)
        .ok_or_else(|| format!("{name}: {text:?} is not a number above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn suites_and_options_are_read_in_any_order() {
        let Ok(Command::Run(args)) = parse("--json db --scale 0.5 inproc --peer cqi") else {
            panic!("refused");
        };
        assert_eq!(args.suites, [Suite::Db, Suite::Inproc]);
        assert!((args.json, args.rounds, args.peer.as_deref()) == (true, 1, Some("cqi")));
        assert!((args.scale - 0.5).abs() < 1e-9);
    }

    #[test]
    fn wrong_usage_is_told_in_one_line() {
        for bad in [
            "nosuite",
            "--rounds",
            "--rounds 0",
            "--rounds x",
            "--scale -1",
            "--programs",
        ] {
            let why = parse(bad).err().unwrap_or_default();
            assert!(!why.is_empty() && !why.contains('\n'), "{bad}: {why}");
        }
    }
}
