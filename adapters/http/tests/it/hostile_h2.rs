//! Clients of HTTP/2 that flood.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::get,
};
use cqi_http::HttpOptions;
use futures::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    time::timeout,
};

use crate::support::{PATIENCE, SHORT, options, serve};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET http://a/`, by the static table of HPACK.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];
/// `POST http://a/`.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x01, 1, b'a'];
/// The setting of the window that a client grants each stream at first.
const INITIAL_WINDOW_SIZE: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn connect(address: SocketAddr) -> (OwnedReadHalf, OwnedWriteHalf) {
    let socket = TcpSocket::new_v4().unwrap();
    // Full soon when nobody reads.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let (reader, mut writer) = socket.connect(address).await.unwrap().into_split();
    writer
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    writer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    (reader, writer)
}

/// The kind and the last four bytes of the next frame; `None` at the end.
async fn next(reader: &mut OwnedReadHalf) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    reader.read_exact(&mut payload).await.ok()?;
    let code = payload.iter().rev().take(4).rev();
    Some((head[3], code.fold(0, |code, byte| code << 8 | u32::from(*byte))))
}

/// Sends the same again and again until the server closes, and gives the kinds of frames it sent.
async fn flood(address: SocketAddr, first: Vec<u8>, again: impl Fn(u32) -> Vec<u8> + Send + Sync) -> Vec<u8> {
    let (mut reader, mut writer) = connect(address).await;
    let send = async {
        let mut sent = writer.write_all(&first).await;
        for number in 0..1_000_000 {
            if sent.is_err() {
                break;
            }
            sent = writer.write_all(&again(number)).await;
        }
        sent.is_err()
    };
    let read = async {
        let mut kinds = Vec::new();
        while let Some((kind, _)) = next(&mut reader).await {
            kinds.push(kind);
        }
        kinds
    };
    let both = async { tokio::join!(send, read) };
    let (closed, kinds) = timeout(PATIENCE, both).await.expect("the connection stays open");
    assert!(closed, "everything was taken");
    kinds
}

fn router() -> Router {
    Router::new().route("/", get(|| async { "hello" }).post(|| async { "hello" }))
}

/// A route that never answers, and how often it was entered.
fn counting() -> (Router, Arc<AtomicUsize>) {
    let entered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&entered);
    let hang = get(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>()
    });
    (Router::new().route("/", hang), entered)
}

#[tokio::test]
async fn h_15_rapid_resets_close_the_connection() {
    let (address, _handle) = serve(router(), options()).await;
    let kinds = flood(address, Vec::new(), |number| {
        let stream = 2 * number + 1;
        let mut both = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
        both.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        both
    })
    .await;
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test]
async fn h_15_a_head_without_an_end_closes_the_connection() {
    let (address, _handle) = serve(router(), options()).await;
    // A header without indexing, whose value is spread over frames, and frames with many small ones.
    let small: Vec<u8> = [&[0x00, 1, b'a', 1, b'b'][..]; 3000].concat();
    for payload in [small, vec![0x00], Vec::new()] {
        let head = frame(HEADERS, END_STREAM, 1, GET);
        flood(address, head, |_| frame(CONTINUATION, 0, 1, &payload)).await;
    }
}

#[tokio::test]
async fn h_15_empty_data_closes_the_connection() {
    let (address, _handle) = serve(
        Router::new().route("/", axum::routing::post(|body: Bytes| async { body })),
        options(),
    )
    .await;
    let head = frame(HEADERS, END_HEADERS, 1, POST);
    flood(address, head, |_| frame(DATA, 0, 1, &[]).repeat(100)).await;
}

#[tokio::test]
async fn h_15_a_client_that_floods_and_does_not_read_is_cut() {
    let options = HttpOptions {
        write_timeout: SHORT,
        ..options()
    };
    let (address, _handle) = serve(router(), options).await;
    for again in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let (_reader, mut writer) = connect(address).await;
        let again = again.repeat(1000);
        let send = async { while writer.write_all(&again).await.is_ok() {} };
        timeout(PATIENCE, send).await.expect("the connection stays open");
    }
}

/// `GET http://a` and a path of at most 30 bytes.
fn get_path(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[0x82, 0x86, 0x04, length], path.as_bytes(), &GET[3..]].concat()
}

/// Grants each stream a window of `window` bytes and asks for the paths on streams 1, 3, …
async fn ask_with_window(address: SocketAddr, window: u8, paths: &[&str]) -> (OwnedReadHalf, OwnedWriteHalf) {
    let (reader, mut writer) = connect(address).await;
    let grant = frame(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE, 0, 0, 0, window]);
    writer.write_all(&grant).await.unwrap();
    for (number, path) in (0..).zip(paths) {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &get_path(path));
        writer.write_all(&head).await.unwrap();
    }
    (reader, writer)
}

/// The next frame that ends a stream: its kind and stream.
async fn next_end(reader: &mut OwnedReadHalf) -> (u8, u32) {
    loop {
        let mut head = [0; 9];
        reader.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        reader.read_exact(&mut payload).await.unwrap();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match head[3] {
            RST_STREAM => return (RST_STREAM, stream),
            kind @ (DATA | HEADERS) if head[4] & END_STREAM != 0 => return (kind, stream),
            GOAWAY => panic!("the connection ends"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn h_04_a_client_that_grants_no_window_loses_its_response_and_no_other() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let quiet = || async move {
        // Silent for longer than a client may be.
        let end = stream::once(async move { drop(opened.acquire().await) });
        let parts = stream::iter([Bytes::from_static(b"five!")]).chain(end.map(|()| Bytes::new()));
        Body::from_stream(parts.map(Ok::<_, std::io::Error>))
    };
    let endless = || async {
        let parts = stream::repeat(Bytes::from_static(b"five!"));
        Body::from_stream(parts.map(Ok::<_, std::io::Error>))
    };
    let large = || async { vec![b'x'; 1 << 20] };
    let router = Router::new()
        .route("/quiet", get(quiet))
        .route("/endless", get(endless))
        .route("/large", get(large));
    let options = HttpOptions {
        write_timeout: SHORT,
        ..options()
    };
    let (address, _handle) = serve(router, options).await;
    let ends = async {
        let (mut reader, _writer) = ask_with_window(address, 5, &["/quiet", "/endless", "/large"]).await;
        let mut cut = [next_end(&mut reader).await, next_end(&mut reader).await];
        cut.sort_unstable();
        assert_eq!(cut, [(RST_STREAM, 3), (RST_STREAM, 5)]);
        gate.add_permits(1);
        assert_eq!(next_end(&mut reader).await, (DATA, 1));
        let (mut reader, _writer) = ask_with_window(address, 0, &["/large"]).await;
        assert_eq!(next_end(&mut reader).await, (RST_STREAM, 1));
    };
    timeout(PATIENCE, ends).await.expect("the responses are kept");
}

#[tokio::test]
async fn ml_http_2_a_client_that_takes_its_response_slowly_gets_all_of_it() {
    let (address, mut handle) = serve(router(), options()).await;
    let (mut silent, _open) = connect(address).await;
    let (mut reader, mut writer) = ask_with_window(address, 2, &["/"]).await;
    // The handler is through, and the server has given out what the window allows.
    while next(&mut reader).await.expect("the server closes").0 != DATA {}
    let taking = async {
        let ping = loop {
            let mut head = [0; 9];
            reader.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[2])];
            reader.read_exact(&mut payload).await.unwrap();
            if head[3] == PING {
                break payload;
            }
        };
        writer.write_all(&frame(PING, 1, 0, &ping)).await.unwrap();
        // That is how long a drain waits for a client that says nothing.
        while next(&mut silent).await.is_some() {}
        let window = frame(WINDOW_UPDATE, 0, 1, &100u32.to_be_bytes());
        let _ = writer.write_all(&window).await;
        let mut kinds = Vec::new();
        while let Some((kind, _)) = next(&mut reader).await {
            kinds.push(kind);
        }
        kinds
    };
    let both = async { tokio::join!(handle.stop(PATIENCE), taking) };
    let (stopped, kinds) = timeout(PATIENCE, both).await.unwrap();
    assert!(kinds.contains(&DATA), "the response was cut off: {kinds:?}");
    stopped.unwrap();
}

#[tokio::test]
async fn h_16_streams_over_the_limit_are_refused() {
    let (router, entered) = counting();
    let (address, _handle) = serve(router, options()).await;
    let (mut reader, mut writer) = connect(address).await;
    // The server's settings are acknowledged, so that its limit holds.
    writer.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
    for number in 0..150 {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, GET);
        writer.write_all(&head).await.unwrap();
    }
    let refused = async {
        let mut refused = 0;
        while refused < 50 {
            match next(&mut reader).await {
                Some((RST_STREAM, code)) => {
                    assert_eq!(code, 7, "REFUSED_STREAM");
                    refused += 1;
                }
                Some((GOAWAY, _)) | None => return true,
                Some(_) => {}
            }
        }
        true
    };
    assert!(timeout(PATIENCE, refused).await.expect("all are taken"));
    assert!(entered.load(Ordering::SeqCst) <= 100);
}

#[tokio::test]
async fn h_05_heads_over_the_limit_are_refused_on_http2_too() {
    let (router, entered) = counting();
    let (address, _handle) = serve(router, options()).await;
    let (mut reader, mut writer) = connect(address).await;
    let mut head = GET.to_vec();
    for _ in 0..5 {
        // A literal of 16,000 bytes: 127 and the rest in base 128.
        head.extend([0x00, 1, b'a', 0x7f, 0x81, 0x7c]);
        head.extend([b'x'; 16_000]);
    }
    let parts: Vec<&[u8]> = head.chunks(16_000).collect();
    for (number, part) in parts.iter().enumerate() {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let end_stream = if number == 0 { END_STREAM } else { 0 };
        let end_headers = if number + 1 == parts.len() { END_HEADERS } else { 0 };
        // It may be refused before it is complete.
        let _ = writer
            .write_all(&frame(kind, end_stream | end_headers, 1, part))
            .await;
    }
    let refused = async {
        loop {
            match next(&mut reader).await {
                // A head of status 431, a reset, or the end.
                Some((HEADERS | RST_STREAM | GOAWAY, _)) | None => break,
                Some(_) => {}
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("it is taken");
    assert_eq!(entered.load(Ordering::SeqCst), 0);
}
