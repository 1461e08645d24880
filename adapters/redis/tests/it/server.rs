//! A Redis of one's own.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use cqi_redis::RedisOptions;

pub(crate) struct Server {
    address: SocketAddr,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    child: Mutex<Option<Child>>,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Self {
            address,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            folder: tempfile::tempdir().unwrap(),
            child: Mutex::new(None),
        };
        server.resurrect();
        server
    }

    /// One for all tests that harm none.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn options(&self) -> RedisOptions {
        options(self.address)
    }

    /// Starts it again: same port, no data.
    pub(crate) fn resurrect(&self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.address.port().to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
        while TcpStream::connect(self.address).is_err() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.lock().unwrap().as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn options(address: SocketAddr) -> RedisOptions {
    RedisOptions {
        nodes: vec![(address.ip().to_string(), address.port())],
        connection_timeout: Duration::from_secs(2),
        ..RedisOptions::default()
    }
}
