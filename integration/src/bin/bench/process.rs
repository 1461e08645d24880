//! The processes: servers and load. Each is ended by its handle.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{
    grpc, http, measure,
    report::say,
    serve::{API_KEY, Kind},
};

/// A server process; dropping it ends it.
pub(crate) struct Server {
    pub(crate) port: u16,
    metrics: u16,
    kind: Kind,
    child: Child,
}

/// What [`Server::under`] measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    seconds: f64,
    pub(crate) p99_us: f64,
    /// Processor time of the server per request.
    pub(crate) cpu_us: f64,
}

impl Served {
    pub(crate) fn rate(&self, total: usize) -> f64 {
        total as f64 / self.seconds
    }
}

impl Server {
    /// Starts a server on a free port and waits until it answers. It has the collector on the port `collector`, if that
    /// is not 0. Its access log goes to `log`, or nowhere.
    pub(crate) async fn start(kind: Kind, collector: u16, log: Option<&Path>) -> Self {
        let [port, metrics] = free_ports();
        let ports = [port, collector, metrics].map(|port| port.to_string());
        let child = command(&this_program())
            .args(["serve", kind.name()])
            .args(ports)
            .env("LOG_OUT", log.unwrap_or(Path::new("/dev/null")))
            .stdout(Stdio::null())
            .spawn()
            .expect("this program, once more");
        let mut server = Self {
            port,
            metrics,
            kind,
            child,
        };
        let started = Instant::now();
        while !server.answers().await {
            let ended = server.child.try_wait().expect("the state of a child");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "the server does not answer"
            );
            sleep(Duration::from_millis(10)).await;
        }
        server
    }

    async fn answers(&self) -> bool {
        if !self.kind.is_http() {
            return TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
        }
        let answer = self.get("/hello").await;
        answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The whole answer to one request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Option<String> {
        get(self.port, API_KEY, path).await
    }

    /// As [`Server::get`], with another key.
    pub(crate) async fn get_as(&self, key: &str, path: &str) -> Option<String> {
        get(self.port, key, path).await
    }

    /// Measures the server under a load. A configured service has to count all of it.
    pub(crate) async fn under(&self, load: Requests) -> Served {
        let (counted, cpu) = (self.counted().await, self.cpu());
        let took = load.run().await;
        let cpu = self.cpu().saturating_sub(cpu);
        if let (Some(before), Some(after)) = (counted, self.counted().await) {
            assert_eq!(after - before, load.total, "requests that the metrics know");
        }
        Served {
            seconds: took.seconds,
            p99_us: took.p99_us,
            cpu_us: cpu.as_secs_f64() * 1e6 / load.total as f64,
        }
    }

    /// How many requests of the load a configured service has counted itself.
    pub(crate) async fn counted(&self) -> Option<usize> {
        if !self.kind.is_configured() {
            return None;
        }
        let metrics = self.scrape().await;
        let of_load = |line: &str| {
            line.contains("_count_total{") && (line.contains("\"/hello\"") || line.contains("Echo/Echo\""))
        };
        Some(sum(&metrics, of_load))
    }

    /// The share of recorded spans that the collector did not get, in percent.
    pub(crate) async fn spans_lost(&self) -> f64 {
        let metrics = self.scrape().await;
        let of = |name: &str| sum(&metrics, |line| line.starts_with(name)) as f64;
        let lost = of("bench_tracing_spans_dropped_total");
        let all = lost + of("bench_tracing_spans_exported_total");
        assert!(all > 0.0, "no spans were recorded");
        lost / all * 100.0
    }

    /// The metrics of a configured service as of now.
    async fn scrape(&self) -> String {
        sleep(Duration::from_millis(300)).await; // what was answered to a scrape before is answered again for 250 ms
        get(self.metrics, API_KEY, "/metrics").await.expect("metrics")
    }

    /// Processor time it has used, in user and kernel.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("a process that runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = |at| {
            fields
                .split_whitespace()
                .nth(at)
                .and_then(|ticks| ticks.parse::<u64>().ok())
        };
        let ticks = ticks(11).zip(ticks(12)).expect("two times");
        Duration::from_millis((ticks.0 + ticks.1) * 10) // the kernel tells it in hundredths of a second
    }

    /// Memory of it that is in RAM, in MiB.
    pub(crate) fn resident(&self) -> f64 {
        measure::resident(&self.proc("status"))
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id().expect("a process that runs"))
    }
}

/// A port of loopback that nobody listens on.
pub(crate) fn nobody() -> u16 {
    let [port, _] = free_ports();
    port
}

/// How a load speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http, Self::Grpc];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// The load on one port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requests {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) connections: usize,
    /// How many requests are under way at a time; with HTTP, one per connection.
    pub(crate) callers: usize,
    pub(crate) total: usize,
}

/// What the load measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    pub(crate) mean_us: f64,
    pub(crate) p99_us: f64,
}

impl Requests {
    /// As many as `total`.
    pub(crate) fn total(self, total: usize) -> Self {
        Self { total, ..self }
    }

    /// Makes them in a process of their own.
    pub(crate) async fn run(self) -> Took {
        let numbers = [usize::from(self.port), self.connections, self.callers, self.total];
        let [port, connections, callers, total] = &numbers.map(|number| number.to_string());
        let args = ["load", self.protocol.name(), port, connections, callers, total];
        let told = ask(&this_program(), &args).await;
        let [seconds, mean_us, p99_us] = told[..] else {
            panic!("three numbers: {told:?}");
        };
        Took {
            seconds,
            mean_us,
            p99_us,
        }
    }

    /// Makes them in this process.
    pub(crate) fn make(self) {
        match self.protocol {
            Protocol::Http => http::load(self),
            Protocol::Grpc => grpc::load(self),
        }
    }

    /// Prints seconds, mean and p99 of the requests, for [`Requests::run`].
    pub(crate) fn tell(&self, wall: Duration, mut nanos: Vec<u64>) {
        assert_eq!(nanos.len(), self.total);
        let mean = nanos.iter().sum::<u64>() as f64 / self.total as f64 / 1e3;
        let p99 = measure::percentile(&mut nanos, 99) as f64 / 1e3;
        say(format_args!("{} {mean} {p99}", wall.as_secs_f64()));
    }
}

fn free_ports() -> [u16; 2] {
    // Both are taken before either is given back, so that they differ.
    [(), ()]
        .map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"))
        .map(|listener| listener.local_addr().expect("an address").port())
}

async fn get(port: u16, key: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// The sum of the metrics whose lines fit.
fn sum(metrics: &str, fits: impl Fn(&str) -> bool) -> usize {
    let counts = metrics
        .lines()
        .filter(|line| fits(line))
        .filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse::<usize>().expect("a count")).sum()
}

/// The path of this program.
pub(crate) fn this_program() -> PathBuf {
    std::env::current_exe().expect("the path of this program")
}

/// The numbers that a program prints.
pub(crate) async fn ask(program: &Path, args: &[&str]) -> Vec<f64> {
    let output = command(program)
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .await;
    let output = output.expect("a program beside this one");
    assert!(output.status.success(), "{args:?} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.split_whitespace();
    numbers.map(|number| number.parse().expect("a number")).collect()
}

/// A program that is ended when its handle is dropped.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}
