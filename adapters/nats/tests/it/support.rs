//! A server of our own.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    thread::sleep,
    time::{Duration, Instant},
};

use cqi_nats::NatsOptions;

pub(crate) fn options(url: &str) -> NatsOptions {
    NatsOptions::new(url)
}

pub(crate) struct Server {
    address: SocketAddr,
    url: String,
    folder: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Server {
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_with(""))
    }

    pub(crate) fn start_with(config: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("cqi-nats-{port}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: \"{}\" }}\n{config}\n", folder.display());
        std::fs::write(folder.join("nats.conf"), text).unwrap();
        let server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            url: format!("nats://127.0.0.1:{port}"),
            folder,
            child: Mutex::default(),
        };
        server.start();
        server
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn start(&self) {
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(self.folder.join("nats.conf"))
            .stderr(Stdio::from(std::fs::File::create(self.folder.join("log")).unwrap()))
            .spawn()
            .expect("nats-server is installed");
        *self.child.lock().unwrap() = Some(child);
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < end, "nats-server did not start");
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
