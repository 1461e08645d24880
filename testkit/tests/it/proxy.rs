//! The proxy, between a plain client and a server that echoes.

use std::{io, net::SocketAddr, time::Duration};

use cqi_testkit::{
    eventually,
    proxy::{Direction, Proxy},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

/// How long to watch that nothing comes.
const QUIET: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(10);

/// A server that echoes, and a proxy before it.
struct Setup {
    proxy: Proxy,
    _server: JoinSet<()>,
}

async fn echo() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                // Ends as the client wishes.
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    (address, server)
}

async fn setup() -> Setup {
    let (address, server) = echo().await;
    Setup {
        proxy: Proxy::start(address).await.unwrap(),
        _server: server,
    }
}

impl Setup {
    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address()).await.unwrap()
    }

    /// A client whose connection has been used.
    async fn working_client(&self) -> TcpStream {
        let mut client = self.client().await;
        assert_eq!(said(&mut client, "hello").await.unwrap(), "hello");
        client
    }
}

/// Sends a text and reads as much back.
async fn said(client: &mut TcpStream, text: &str) -> io::Result<String> {
    client.write_all(text.as_bytes()).await?;
    heard(client, text.len()).await
}

async fn heard(client: &mut TcpStream, length: usize) -> io::Result<String> {
    let mut answer = vec![0; length];
    timeout(LIMIT, client.read_exact(&mut answer)).await??;
    Ok(String::from_utf8(answer).unwrap())
}

async fn hears_nothing(client: &mut TcpStream) {
    let mut byte = [0];
    assert!(
        timeout(QUIET, client.read(&mut byte)).await.is_err(),
        "something came"
    );
}

/// How the connection ended: `Ok` in the orderly way.
async fn end(client: &mut TcpStream) -> Result<(), io::ErrorKind> {
    let mut rest = Vec::new();
    let read = timeout(LIMIT, client.read_to_end(&mut rest)).await.unwrap();
    read.map(drop).map_err(|error| error.kind())
}

#[tokio::test]
async fn bytes_pass_unchanged_and_ends_are_passed_on() {
    let setup = setup().await;
    let mut client = setup.client().await;
    let (mut read, mut write) = client.split();
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|i| i.to_le_bytes()[(i % 3) as usize])
        .collect();
    let mut received = Vec::new();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (_, read) = timeout(LIMIT, async {
        tokio::join!(send, read.read_to_end(&mut received))
    })
    .await
    .unwrap();
    read.unwrap();
    assert!(sent == received);
    drop(client);
    eventually("the connection's end", LIMIT, || {
        let open = setup.proxy.open();
        async move { if open == 0 { Ok(()) } else { Err(open) } }
    })
    .await
    .unwrap();
    assert_eq!(setup.proxy.accepted(), 1);
}

#[tokio::test]
async fn a_black_hole_holds_bytes_back_until_it_is_healed() {
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        let setup = setup().await;
        let mut old = setup.working_client().await;
        setup.proxy.black_hole(direction);
        let mut new = setup.client().await;
        for client in [&mut old, &mut new] {
            client.write_all(b"held").await.unwrap();
            hears_nothing(client).await;
        }
        setup.proxy.heal().await;
        for client in [&mut old, &mut new] {
            assert_eq!(heard(client, 4).await.unwrap(), "held", "{direction:?}");
        }
    }
}

#[tokio::test]
async fn a_black_hole_of_old_connections_leaves_new_ones() {
    let setup = setup().await;
    let mut old = setup.working_client().await;
    setup.proxy.black_hole_old(Direction::Both);
    old.write_all(b"held").await.unwrap();
    assert_eq!(said(&mut setup.client().await, "new").await.unwrap(), "new");
    hears_nothing(&mut old).await;
    setup.proxy.heal().await;
    assert_eq!(heard(&mut old, 4).await.unwrap(), "held");
}

#[tokio::test]
async fn the_end_of_a_connection_does_not_pass_a_black_hole() {
    let setup = setup().await;
    let mut client = setup.working_client().await;
    setup.proxy.black_hole(Direction::Up);
    client.shutdown().await.unwrap();
    hears_nothing(&mut client).await;
    setup.proxy.heal().await;
    assert_eq!(end(&mut client).await, Ok(()));
}

#[tokio::test]
async fn latency_delays_and_keeps_order_and_throughput() {
    let setup = setup().await;
    let mut client = setup.working_client().await;
    let delay = Duration::from_millis(50);
    setup.proxy.latency_with_jitter(delay, Duration::from_millis(20));
    let start = Instant::now();
    assert_eq!(said(&mut client, "slow").await.unwrap(), "slow");
    assert!(start.elapsed() >= 2 * delay);
    // 200 messages under way at once take no longer than one, by far.
    let start = Instant::now();
    let (mut read, mut write) = client.split();
    let send = async {
        for number in 0..200_u8 {
            write.write_all(&[number]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let mut received = [0; 200];
    let (_, read) = timeout(LIMIT, async {
        tokio::join!(send, read.read_exact(&mut received))
    })
    .await
    .unwrap();
    read.unwrap();
    assert!(received.iter().copied().eq(0..200));
    assert!(start.elapsed() < 50 * delay, "it took {:?}", start.elapsed());
    setup.proxy.heal().await;
    assert_eq!(said(&mut client, "fast").await.unwrap(), "fast");
}

#[tokio::test]
async fn a_reset_resets_what_is_open() {
    let setup = setup().await;
    let mut old = setup.working_client().await;
    setup.proxy.reset();
    assert_eq!(end(&mut old).await, Err(io::ErrorKind::ConnectionReset));
    setup.working_client().await;
}

#[tokio::test]
async fn a_cut_closes_what_is_open_even_in_a_black_hole() {
    let setup = setup().await;
    let mut old = setup.working_client().await;
    setup.proxy.black_hole(Direction::Both);
    setup.proxy.cut();
    assert_eq!(end(&mut old).await, Ok(()));
    setup.proxy.heal().await;
    setup.working_client().await;
}

#[tokio::test]
async fn a_half_close_ends_one_direction() {
    let setup = setup().await;
    let mut client = setup.working_client().await;
    // The server sees the end, and so ends in the orderly way, which the client sees.
    setup.proxy.half_close(Direction::Up);
    assert_eq!(end(&mut client).await, Ok(()));

    let mut client = setup.working_client().await;
    setup.proxy.half_close(Direction::Down);
    assert_eq!(end(&mut client).await, Ok(()));
    // It can still send, and the server still reads and answers: nothing backs up.
    client.write_all(&vec![0; 4_000_000]).await.unwrap();
    setup.working_client().await;
}

#[tokio::test]
async fn refusing_is_for_new_connections_and_keeps_the_port() {
    let setup = setup().await;
    let mut old = setup.working_client().await;
    setup.proxy.refuse().await;
    let refused = TcpStream::connect(setup.proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(said(&mut old, "old").await.unwrap(), "old");
    setup.proxy.refuse().await;
    setup.proxy.heal().await;
    setup.working_client().await;
}

#[tokio::test]
async fn slices_arrive_whole_in_single_bytes() {
    let setup = setup().await;
    setup.proxy.slice();
    let mut client = setup.client().await;
    let text = "0123456789".repeat(50);
    client.write_all(text.as_bytes()).await.unwrap();
    let mut received: Vec<u8> = Vec::new();
    let mut largest = 0;
    while received.len() < text.len() {
        let mut some = [0; 500];
        let read = timeout(LIMIT, client.read(&mut some)).await.unwrap().unwrap();
        received.extend_from_slice(&some[..read]);
        largest = largest.max(read);
    }
    assert_eq!(received, text.as_bytes());
    assert!(largest < text.len(), "it came at once");
}

#[tokio::test]
async fn a_connection_is_cut_after_its_bytes() {
    let setup = setup().await;
    let mut old = setup.working_client().await;
    setup.proxy.cut_after(Direction::Down, 3);
    let mut new = setup.client().await;
    for client in [&mut old, &mut new] {
        client.write_all(b"12345").await.unwrap();
        assert_eq!(heard(client, 3).await.unwrap(), "123");
        assert!(heard(client, 1).await.is_err());
    }
    // The same order once more counts anew, and healing ends it.
    setup.proxy.cut_after(Direction::Up, 4);
    setup.proxy.heal().await;
    let mut client = setup.working_client().await;
    setup.proxy.cut_after(Direction::Both, 100);
    assert_eq!(said(&mut client, "12345").await.unwrap(), "12345");
    // The next order counts for itself, however much an order that was healed had left.
    setup.proxy.heal().await;
    setup.proxy.cut_after(Direction::Down, 3);
    client.write_all(b"12345").await.unwrap();
    assert_eq!(heard(&mut client, 3).await.unwrap(), "123");
    assert!(heard(&mut client, 1).await.is_err());
}

#[tokio::test]
async fn a_redirect_is_for_new_connections() {
    let setup = setup().await;
    let mut old = setup.working_client().await;
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    setup.proxy.redirect(nobody);
    assert!(end(&mut setup.client().await).await.is_err());
    assert_eq!(said(&mut old, "old").await.unwrap(), "old");
    let (address, _other) = echo().await;
    setup.proxy.redirect(address);
    setup.working_client().await;
}

#[tokio::test]
async fn a_proxy_without_a_server_resets() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(end(&mut client).await, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_closed_proxy_is_gone_with_its_connections() {
    let setup = setup().await;
    let mut client = setup.working_client().await;
    let address = setup.proxy.address();
    setup.proxy.close().await;
    assert!(end(&mut client).await.is_ok());
    assert!(TcpStream::connect(address).await.is_err());

    let setup = self::setup().await;
    let mut client = setup.working_client().await;
    drop(setup.proxy);
    assert!(end(&mut client).await.is_ok());
}
