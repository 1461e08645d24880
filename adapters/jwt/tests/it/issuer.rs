//! An issuer on loopback whose answers a test writes byte by byte.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jsonwebtoken::{Algorithm, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::token::private;

type Answers = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Answers each path with the bytes it was given, and 404 otherwise.
pub(crate) struct Issuer {
    pub(crate) url: String,
    answers: Answers,
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Issuer {
    /// One that speaks HTTP.
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// One that speaks HTTPS.
    pub(crate) async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::listen(Some(tls)).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (answers, asked) = (Answers::default(), Arc::new(AtomicUsize::new(0)));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, tls, Arc::clone(&answers), Arc::clone(&asked)));
        Self {
            url,
            answers,
            asked,
            _serving: serving,
        }
    }

    /// Answers `path` with these bytes.
    pub(crate) fn answers(&self, path: &str, answer: impl Into<Vec<u8>>) {
        self.answers
            .lock()
            .unwrap()
            .insert(path.to_owned(), answer.into());
    }

    /// Answers `path` with a JSON document.
    pub(crate) fn publishes(&self, path: &str, document: &Value) {
        self.answers(
            path,
            answer("200 OK", "application/json", document.to_string().as_bytes()),
        );
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A whole answer.
pub(crate) fn answer(status: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A key set of the key of this algorithm.
pub(crate) fn key_set(keys: &[(&str, Algorithm)]) -> Value {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(id, algorithm)| {
            let mut jwk = Jwk::from_encoding_key(&private(*algorithm), *algorithm).unwrap();
            jwk.common.key_id = Some((*id).to_owned());
            serde_json::to_value(jwk).unwrap()
        })
        .collect();
    json!({"keys": keys})
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, answers: Answers, asked: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        asked.fetch_add(1, Ordering::SeqCst);
        let (tls, answers) = (tls.clone(), Arc::clone(&answers));
        connections.spawn(async move {
            match tls {
                None => respond(stream, answers).await,
                Some(tls) => {
                    // A client that does not believe this server goes away.
                    if let Ok(stream) = tls.accept(stream).await {
                        respond(stream, answers).await;
                    }
                }
            }
        });
    }
}

async fn respond(mut stream: impl AsyncRead + AsyncWrite + Send + Unpin, answers: Answers) {
    let mut request = Vec::new();
    while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let known = answers.lock().unwrap().get(&path).cloned();
    let bytes = known.unwrap_or_else(|| answer("404 Not Found", "text/plain", b"no"));
    // Whoever asked may have gone away, having seen enough.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    if bytes.is_empty() {
        std::future::pending::<()>().await; // it never answers
    }
}
