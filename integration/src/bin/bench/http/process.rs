//! The processes: servers and load. Each is ended by its handle.

use std::{fs, net::TcpListener, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::Kind;

/// A server process; dropping it ends it.
pub(super) struct Server {
    pub(super) port: u16,
    kind: Kind,
    child: Child,
}

impl Server {
    /// Starts a server on a free port and waits until it answers. Its access log goes to `log`, or nowhere.
    pub(super) async fn start(kind: Kind, log: Option<&Path>) -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let child = this()
            .args(["serve", kind.name(), &port.to_string()])
            .env("LOG_OUT", log.unwrap_or(Path::new("/dev/null")))
            .stdout(Stdio::null())
            .spawn()
            .expect("this program, once more");
        let mut server = Self { port, kind, child };
        let started = Instant::now();
        while server
            .get("/hello")
            .await
            .is_none_or(|answer| !answer.starts_with("HTTP/1.1 200"))
        {
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

    /// The whole answer to one request on a connection of its own.
    pub(super) async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// How many requests to `/hello` a whole service has counted itself.
    pub(super) async fn counted(&self) -> Option<usize> {
        if self.kind != Kind::Full {
            return None;
        }
        let metrics = self.get("/metrics").await.expect("metrics");
        let hello = |line: &&str| line.contains("_total{") && line.contains("\"/hello\"");
        let counts = metrics
            .lines()
            .filter(hello)
            .filter_map(|line| line.rsplit(' ').next());
        Some(counts.map(|count| count.parse::<usize>().expect("a count")).sum())
    }

    /// Processor time it has used, in user and kernel.
    pub(super) fn cpu(&self) -> Duration {
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
    pub(super) fn resident(&self) -> f64 {
        crate::measure::resident(&self.proc("status"))
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id().expect("a process that runs"))
    }
}

/// The load on one port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) port: u16,
    pub(super) connections: usize,
}

/// What the load measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    pub(super) seconds: f64,
    pub(super) mean_us: f64,
    pub(super) p99_us: f64,
}

impl Load {
    /// Makes `total` requests in a process of their own.
    pub(super) async fn run(&self, total: usize) -> Took {
        let args = [usize::from(self.port), self.connections, total].map(|number| number.to_string());
        let output = this()
            .arg("load")
            .args(args)
            .stderr(Stdio::inherit())
            .output()
            .await;
        let output = output.expect("this program, once more");
        assert!(output.status.success(), "the load failed");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text
            .split_whitespace()
            .map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("three numbers");
        Took {
            seconds: next(),
            mean_us: next(),
            p99_us: next(),
        }
    }
}

/// Checks that a whole service does what it is measured with: request id, access log, metrics, recovery.
pub(super) async fn check_layers() {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let log = folder.path().join("access.log");
    let server = Server::start(Kind::Full, Some(&log)).await;
    let lines = || {
        let log = fs::read_to_string(&log).expect("the log");
        log.lines().filter(|line| line.contains("/hello")).count()
    };
    let (counted, logged) = (server.counted().await, lines());
    let answer = server.get("/hello").await.expect("an answer").to_lowercase();
    assert!(answer.contains("x-request-id: "), "no request id: {answer}");
    let panicked = server.get("/panic").await.expect("an answer");
    assert!(panicked.starts_with("HTTP/1.1 500"), "{panicked}");
    assert_eq!(
        server.counted().await,
        counted.map(|before| before + 1),
        "not counted"
    );
    assert_eq!(lines(), logged + 1, "not logged once");
}

/// This program, with other arguments; ended when its handle is dropped.
fn this() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}
