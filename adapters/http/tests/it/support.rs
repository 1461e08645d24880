//! A server on a free port, a client that writes raw bytes, and an observer that remembers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use cqi_core::{
    observe::{Observation, Observer},
    service::ServiceHandle,
    trace::TraceContext,
};
use cqi_http::{HttpOptions, HttpServer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The longest any wait of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A short deadline for what a test wants to see overdue.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn options() -> HttpOptions {
    HttpOptions::listen("127.0.0.1", 0)
}

/// Starts a server and waits until it listens.
pub(crate) async fn start(server: HttpServer) -> (SocketAddr, ServiceHandle) {
    let mut bound = server.bound();
    let handle = ServiceHandle::start(server, PATIENCE).await.unwrap();
    (bound.address().await.unwrap(), handle)
}

pub(crate) async fn serve(router: Router, options: HttpOptions) -> (SocketAddr, ServiceHandle) {
    start(HttpServer::new("http", router, options).unwrap()).await
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Client(Box<dyn Stream>);

/// One response, its body read by its length or chunks.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> From<T> for Client {
    fn from(stream: T) -> Self {
        Self(Box::new(stream))
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        TcpStream::connect(address).await.unwrap().into()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has answered and closed already may refuse the rest.
        let _ = self.0.write_all(bytes.as_ref()).await;
        let _ = self.0.flush().await;
    }

    /// Sends `GET path` and reads the answer.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await;
        self.answer().await.unwrap()
    }

    /// Sends `GET path` with more header lines, each ended, and reads the answer.
    pub(crate) async fn get_with(&mut self, path: &str, lines: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"))
            .await;
        self.answer().await.unwrap()
    }

    /// The next answer, or `None` when the server closes instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let mut seen = Vec::new();
        let head_end = loop {
            if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more(&mut seen).await {
                return None;
            }
        };
        let head = String::from_utf8(seen[..head_end].to_vec()).unwrap();
        let mut answer = Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while seen.len() < head_end + length && self.more(&mut seen).await {}
        answer.body = String::from_utf8_lossy(&seen[head_end..]).into_owned();
        Some(answer)
    }

    /// Reads until the server closes; `None` when nothing of HTTP came.
    pub(crate) async fn answer_or_noise(&mut self) -> Option<String> {
        let mut seen = Vec::new();
        while self.more(&mut seen).await {}
        let text = String::from_utf8_lossy(&seen).into_owned();
        text.contains("HTTP/1.1").then_some(text)
    }

    /// Reads exactly this.
    pub(crate) async fn hears(&mut self, words: &str) {
        let mut heard = vec![0; words.len()];
        timeout(PATIENCE, self.0.read_exact(&mut heard))
            .await
            .expect("the server says nothing")
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), words);
    }

    async fn more(&mut self, seen: &mut Vec<u8>) -> bool {
        let read = timeout(PATIENCE, self.0.read_buf(seen))
            .await
            .expect("the server neither answers nor closes");
        read.is_ok_and(|count| count > 0)
    }

    /// Waits until the server closes the connection, and fails if it says anything before.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest))
            .await
            .expect("the connection stays open");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

/// Sends one request on a connection of its own and reads the answer.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.answer().await.expect("an answer")
}

/// Remembers what it is told, as text.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until something with `part` was noted.
    pub(crate) async fn wait_for(&self, part: &str) {
        let seen = async {
            while !self.all().iter().any(|note| note.contains(part)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, seen)
            .await
            .unwrap_or_else(|_| panic!("no {part} in {:?}", self.all()));
    }
}

impl Observer for Notes {
    fn observe(&self, observation: &Observation<'_>) {
        let note = match observation {
            Observation::Served {
                protocol,
                method,
                route,
                status,
                request_bytes,
                response_bytes,
                ..
            } => format!("{protocol} {method} {route} {status} in={request_bytes} out={response_bytes}"),
            Observation::PanicRecovered { place } => format!("panic {place}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(note);
    }

    fn current_trace(&self) -> Option<TraceContext> {
        None
    }

    fn continue_trace(
        &self,
        parent: Option<TraceContext>,
        open: &mut dyn FnMut() -> tracing::Span,
    ) -> tracing::Span {
        let parent = parent.iter().map(|parent| format!("trace {parent}"));
        self.0.lock().unwrap().extend(parent);
        open()
    }
}

/// A server under the standard stack, and what its observer notes.
pub(crate) async fn observed(
    router: Router,
    options: HttpOptions,
) -> (SocketAddr, ServiceHandle, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn Observer> = Arc::<Notes>::clone(&notes);
    let server = HttpServer::new("http", router, options)
        .unwrap()
        .observer(observer);
    let (address, handle) = start(server).await;
    (address, handle, notes)
}
