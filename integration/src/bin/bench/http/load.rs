//! The load: connections that ask again as soon as they are answered.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    task::JoinSet,
    time::Instant,
};

use crate::{process::Requests, serve::API_KEY};

const BODY: &[u8] = br#"{"message":"hello"}"#;

/// Makes the requests on this thread alone, and prints seconds, mean and p99.
pub(crate) fn load(requests: Requests) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a tokio runtime");
    let request =
        format!("GET /hello HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {API_KEY}\r\n\r\n");
    let request: Arc<[u8]> = request.into_bytes().into();
    runtime.block_on(async {
        let left = Arc::new(AtomicUsize::new(requests.total));
        let mut open = Vec::new();
        for _ in 0..requests.connections {
            let stream = TcpStream::connect(("127.0.0.1", requests.port)).await;
            let stream = stream.expect("a server that listens");
            stream.set_nodelay(true).expect("a socket");
            open.push(stream);
        }
        let started = Instant::now();
        let mut running = JoinSet::new();
        for stream in open {
            running.spawn(ask(stream, Arc::clone(&request), Arc::clone(&left)));
        }
        let mut nanos = Vec::with_capacity(requests.total);
        while let Some(ended) = running.join_next().await {
            nanos.extend(ended.expect("no panic").expect("an answer"));
        }
        requests.tell(started.elapsed(), nanos);
    });
}

/// Asks until no requests are left. Returns the nanoseconds of each.
async fn ask(mut stream: TcpStream, request: Arc<[u8]>, left: Arc<AtomicUsize>) -> io::Result<Vec<u64>> {
    let mut nanos = Vec::new();
    let mut answer = Vec::with_capacity(1024);
    while left
        .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
        .is_ok()
    {
        let started = Instant::now();
        stream.write_all(&request).await?;
        answer.clear();
        while !is_whole(&answer)? {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        nanos.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(nanos)
}

/// Whether the answer is there to its end. What is not the expected answer is an error.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    if !answer.ends_with(BODY) {
        // The body is at the end, so less cannot be whole; and no head is this long.
        return if answer.len() < 4096 {
            Ok(false)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        };
    }
    if answer.starts_with(b"HTTP/1.1 200 ") && answer[..answer.len() - BODY.len()].ends_with(b"\r\n\r\n") {
        return Ok(true);
    }
    Err(io::ErrorKind::InvalidData.into())
}
