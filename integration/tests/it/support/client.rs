//! A small HTTP/1.1 client that keeps its connection and hides nothing.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::PATIENCE;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

/// One response, read in full.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// Whether the server says that this was the connection's last response.
    pub(crate) fn is_last(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = within(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
            .await
    }

    /// Sends these bytes and reads one answer, also when the server answered before it had read them all.
    pub(crate) async fn request(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<Answer> {
        let sent = self.send(bytes).await;
        let answer = self.answer().await;
        match (sent, answer) {
            (Err(error), Err(_)) => Err(error),
            (_, answer) => answer,
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within(self.0.get_mut().write_all(bytes.as_ref())).await
    }

    /// The next answer; `UnexpectedEof` when the server closes instead.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        within(self.read_answer()).await
    }

    /// Reads to the end of the connection, which the server must bring about.
    pub(crate) async fn rest(&mut self) -> io::Result<String> {
        let mut rest = String::new();
        within(self.0.read_to_string(&mut rest)).await?;
        Ok(rest)
    }

    async fn read_answer(&mut self) -> io::Result<Answer> {
        let first = self.line().await?;
        let status = first.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, first))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((key, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((key.to_owned(), value.to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let length = answer
            .header("content-length")
            .map(|length| length.parse().unwrap());
        let mut body = vec![0; length.unwrap_or_else(|| panic!("no length in {answer:?}"))];
        self.0.read_exact(&mut body).await?;
        answer.body = String::from_utf8(body).unwrap();
        Ok(answer)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

/// Sends one request on a connection of its own.
///
/// # Panics
/// When it is not answered.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(address).await.unwrap();
    client.request(request).await.unwrap()
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
