//! The examples as child processes.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{Program, until};

/// A running example, with a folder of its own as working folder. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<String>>,
    /// Keeps the folder until after the process.
    _folder: Option<TempDir>,
}

/// How a process ended, and all it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` when a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Everything it said.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.log, self.stderr)
    }
}

impl Process {
    /// Starts a quickstart on free ports of the loopback address and waits until it is ready.
    pub(crate) async fn quickstart(settings: &[(&str, &str)]) -> Self {
        Self::ready(Program::Quickstart, settings).await
    }

    /// As [`Process::quickstart`], with its rows in this file.
    pub(crate) async fn quickstart_on(file: &Path, settings: &[(&str, &str)]) -> Self {
        let url = format!("sqlite://{}", file.display());
        let settings: Vec<_> = [("CQI_DATABASE_URL", url.as_str())]
            .iter()
            .chain(settings)
            .copied()
            .collect();
        Self::quickstart(&settings).await
    }

    /// Starts the full example in the same way.
    pub(crate) async fn full(settings: &[(&str, &str)]) -> Self {
        Self::ready(Program::Full, settings).await
    }

    async fn ready(program: Program, settings: &[(&str, &str)]) -> Self {
        let process = Self::spawn(program, settings);
        process.line_with("start: ready").await;
        process
    }

    /// Starts one without waiting for anything.
    pub(crate) fn spawn(program: Program, settings: &[(&str, &str)]) -> Self {
        Self::command(program, settings, &[])
    }

    /// Starts one with these arguments; of the environment it sees these settings only.
    pub(crate) fn command(program: Program, settings: &[(&str, &str)], args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(program.path())
            .args(args)
            .current_dir(folder.path())
            .env_clear()
            .env("CQI_SERVER_HOST", "127.0.0.1")
            .env("CQI_SERVER_PORT", "0")
            .env("CQI_GRPC_HOST", "127.0.0.1")
            .env("CQI_GRPC_PORT", "0")
            .env("CQI_METRICS_HOST", "127.0.0.1")
            .env("CQI_METRICS_PORT", "0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        // Read all the time: a full pipe would stop the process.
        let readers = vec![
            std::thread::spawn(move || {
                let read = BufReader::new(stdout).lines().map_while(Result::ok);
                read.for_each(|line| lines.lock().unwrap().push(line));
                String::new()
            }),
            std::thread::spawn(move || {
                let mut text = String::new();
                // What is no text is not looked for either.
                let _ = stderr.read_to_string(&mut text);
                text
            }),
        ];
        Self {
            child,
            log,
            readers,
            _folder: Some(folder),
        }
    }

    /// Where it serves its routes.
    pub(crate) fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// Where it serves gRPC.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.address("grpc")
    }

    /// Where it serves metrics.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.address("admin")
    }

    fn address(&self, component: &str) -> SocketAddr {
        let log = self.log();
        let listens = |line: &&Value| line["message"] == "listening" && line["component"] == component;
        let line = log
            .iter()
            .find(listens)
            .unwrap_or_else(|| panic!("no {component} listens in {log:?}"));
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// The lines of its log so far. Every line must be JSON.
    pub(crate) fn log(&self) -> Vec<Value> {
        let lines = self.log.lock().unwrap();
        let parsed = lines.iter().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the log line {line}"))
        });
        parsed.collect()
    }

    /// Waits for a line with this message.
    ///
    /// # Panics
    /// When it does not come, with the whole log.
    pub(crate) async fn line_with(&self, message: &str) -> Value {
        until(&format!("a log line `{message}`"), || {
            let log = self.log();
            let found = log.iter().find(|line| line["message"] == message).cloned();
            found.ok_or(log)
        })
        .await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `SIGTERM`.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        // It cannot hit another process: the child is not reaped before `ended`.
        kill(pid, Signal::SIGTERM).unwrap();
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = until("the end of the process", || {
            let status = self.child.try_wait().unwrap();
            status.ok_or_else(|| self.log.lock().unwrap().clone())
        })
        .await;
        let stderr = self
            .readers
            .drain(..)
            .map(|reader| reader.join().unwrap())
            .collect();
        let log = self
            .log
            .lock()
            .unwrap()
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        Ended {
            code: status.code(),
            log,
            stderr,
        }
    }

    /// Terminates it and asserts that it ends as it should.
    pub(crate) async fn stop(self) -> Ended {
        self.terminate();
        let ended = self.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.said());
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
