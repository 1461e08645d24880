//! The command line.

use std::{path::PathBuf, str::FromStr};

use crate::{
    bus::Backlog,
    overhead::Traces,
    process::{Protocol, Requests},
    serve::{Kind, Served},
};

pub(crate) const HELP: &str = "\
usage: bench [SUITE...] [--json] [--rounds N] [--scale X] [--peer NAME] [--server URL]...
       bench --programs DIR

Suites: inproc nats kafka cache db log http grpc overhead auth (default: all). nats, kafka, and the halves of cache and db that
need Redis and PostgreSQL, use the servers that CQI_TEST_NATS_URL, CQI_TEST_KAFKA_URL, CQI_TEST_REDIS_URL and
CQI_TEST_POSTGRES_URL name, and start their own where a variable is not set.

  --json          one JSON line per figure and round, instead of tables
  --rounds N      how often each figure is taken, all peers in turn (default 5, with --json 1)
  --scale X       multiplies the number of operations; 0.02 makes a smoke run (default 1)
  --peer NAME     only this peer, for example cqi
  --server URL    this server, for its kind, unless a variable names one or nobody listens there
  --programs DIR  write a program per suite into DIR, which prints the JSON lines of cqi alone";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Args),
    Programs(PathBuf),
    /// What this program asks of itself in processes of their own: a server,
    Serve(Served),
    /// requests,
    Load(Requests),
    /// a peer's log lines to a file,
    LogLines(String, String, usize),
    /// spans of requests,
    Spans(Traces, usize),
    /// and the work on a backlog.
    Backlog(Backlog),
}

/// What to measure, and how.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) suites: Vec<Suite>,
    pub(crate) json: bool,
    pub(crate) rounds: usize,
    pub(crate) scale: f64,
    pub(crate) peer: Option<String>,
    /// URLs of servers that may be up.
    pub(crate) servers: Vec<String>,
}

/// One concern that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    Inproc,
    Nats,
    Kafka,
    CacheRedis,
    CacheMemory,
    DbPostgres,
    DbSqlite,
    Log,
    Http,
    Grpc,
    Overhead,
    Auth,
}

impl Suite {
    pub(crate) const ALL: [Self; 12] = [
        Self::Inproc,
        Self::Nats,
        Self::Kafka,
        Self::CacheRedis,
        Self::CacheMemory,
        Self::DbPostgres,
        Self::DbSqlite,
        Self::Log,
        Self::Http,
        Self::Grpc,
        Self::Overhead,
        Self::Auth,
    ];

    /// Its name on the command line; two may share one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inproc => "inproc",
            Self::Nats => "nats",
            Self::Kafka => "kafka",
            Self::CacheRedis | Self::CacheMemory => "cache",
            Self::DbPostgres | Self::DbSqlite => "db",
            Self::Log => "log",
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Overhead => "overhead",
            Self::Auth => "auth",
        }
    }

    /// Its name in the figures.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::CacheRedis => "cache-redis",
            Self::CacheMemory => "cache-memory",
            Self::DbSqlite => "db-sqlite",
            other => other.name(),
        }
    }
}

impl Args {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Command, String> {
        let mut args = args.peekable();
        let first = args.peek().cloned().unwrap_or_default();
        if matches!(&*first, "serve" | "load" | "log-line" | "spans" | "backlog") {
            return inner(&first, &args.skip(1).collect::<Vec<_>>())
                .ok_or(format!("{first}: wrong arguments"));
        }
        let (mut suites, mut json, mut rounds, mut scale, mut peer) = (Vec::new(), false, None, 1.0, None);
        let mut servers = Vec::new();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(Command::Help),
                "--programs" => return Ok(Command::Programs(value()?.into())),
                "--json" => json = true,
                "--peer" => peer = Some(value()?),
                "--server" => servers.push(value()?),
                "--rounds" => rounds = Some(number(&arg, &value()?, |n: &usize| *n > 0)?),
                "--scale" => scale = number(&arg, &value()?, |x: &f64| *x > 0.0 && x.is_finite())?,
                name => {
                    let known = suites.len();
                    suites.extend(Suite::ALL.into_iter().filter(|suite| suite.name() == name));
                    if suites.len() == known {
                        return Err(format!("unknown argument {name:?}; --help lists them"));
                    }
                }
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
            servers,
        }))
    }
}

fn inner(name: &str, args: &[String]) -> Option<Command> {
    Some(match (name, args) {
        ("serve", [kind, port]) => served(kind, [port, "0", "0"])?,
        ("serve", [kind, port, collector, metrics]) => served(kind, [port, collector, metrics])?,
        ("load", [protocol, port, connections, callers, total]) => Command::Load(Requests {
            protocol: Protocol::ALL.into_iter().find(|known| known.name() == protocol)?,
            port: port.parse().ok()?,
            connections: connections.parse().ok()?,
            callers: callers.parse().ok()?,
            total: total.parse().ok()?,
        }),
        ("spans", [traces, total]) => Command::Spans(
            Traces::ALL.into_iter().find(|known| known.name() == traces)?,
            total.parse().ok()?,
        ),
        ("log-line", [peer, output, total]) => {
            Command::LogLines(peer.clone(), output.clone(), total.parse().ok()?)
        }
        ("backlog", [url, topic, total]) => Command::Backlog(Backlog {
            url: url.clone(),
            topic: topic.clone(),
            total: total.parse().ok()?,
        }),
        _ => return None,
    })
}

fn served(kind: &str, ports: [&str; 3]) -> Option<Command> {
    let [port, collector, metrics] = ports.map(|port| port.parse().ok());
    Some(Command::Serve(Served {
        kind: Kind::ALL.into_iter().find(|known| known.name() == kind)?,
        port: port?,
        collector: collector?,
        metrics: metrics?,
    }))
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
        assert_eq!(args.suites, [Suite::DbPostgres, Suite::DbSqlite, Suite::Inproc]);
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
