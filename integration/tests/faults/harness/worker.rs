//! Processes that are killed.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use cqi_testkit::eventually;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// How long any single thing may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A `fault-worker`. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fault-worker"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, into) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        // Read all the time: a full pipe would stop the process.
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| into.lock().unwrap_or_else(PoisonError::into_inner).push(line));
        });
        Self {
            child,
            lines,
            reader: Some(reader),
        }
    }

    /// What it has printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has printed this many lines.
    pub(crate) async fn prints(&self, count: usize) {
        let look = || {
            let printed = self.lines().len();
            std::future::ready(if printed >= count { Ok(()) } else { Err(printed) })
        };
        let seen = eventually("lines of the worker", LIMIT, look).await;
        seen.unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Sends it this signal.
    fn signal(&self, signal: Signal) {
        // It cannot hit another process: the child is not reaped before it is waited for.
        kill(self.pid(), signal).unwrap();
    }

    /// Stops it; when this returns, each of its threads stands still. The signal alone takes a while to reach them all.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        waitid(Id::Pid(self.pid()), WaitPidFlag::WSTOPPED).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills it, and gives everything it had printed.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // The pipe ends with the process; what is in it is still read.
        self.reader.take().unwrap().join().unwrap();
        self.lines()
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) {
        drop(self.child.stdin.take());
        let look = || std::future::ready(self.child.try_wait().unwrap().ok_or("still running"));
        let status = eventually("the end of the worker", LIMIT, look).await;
        let status = status.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(status.success(), "{status}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
