//! Start, stop, and what happens to those who are connected then.

use std::time::Duration;

use cqi_core::Code;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    echo::note,
    raw::{
        ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Raw, WINDOW_UPDATE, call_headers, message,
    },
    support::{PATIENCE, SHORT, options, serve, soon},
};

#[tokio::test]
async fn ml_grpc_2_svc_7_calls_begun_finish_and_idle_connections_close_at_once() {
    let mut running = serve(options()).await;
    let mut idle = Raw::connect(running.address).await;
    let mut unary = running.client.clone();
    let mut stream = running.client.count(note("wait", 1)).await.unwrap();
    stream.message().await.unwrap();
    let calling = async { unary.ask("wait").await };
    let begun = Instant::now();
    let (echo, handle, address) = (&running.echo, &mut running.handle, running.address);
    let stopping = async {
        echo.entered.acquire_many(2).await.unwrap().forget();
        let stopping = handle.stop(PATIENCE);
        let watching = async {
            assert!(idle.closed().await.contains(&GOAWAY));
            assert!(TcpStream::connect(address).await.is_err(), "it still accepts");
            echo.go.add_permits(2);
        };
        tokio::join!(stopping, watching).0
    };
    let reading = async {
        let last = stream.message().await.unwrap();
        (last, stream.message().await.unwrap())
    };
    let (stopped, answer, read) = soon(async { tokio::join!(stopping, calling, reading) }).await;
    stopped.unwrap();
    assert_eq!(answer.unwrap(), note("done", 0));
    assert_eq!(read, (Some(note("done", 0)), None));
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn ml_grpc_2_what_does_not_finish_in_time_is_cut_and_counted() {
    let mut options = options();
    options.shutdown_grace = SHORT;
    let mut running = serve(options).await;
    let mut unary = running.client.clone();
    let mut stream = running.client.count(note("hang", 1)).await.unwrap();
    stream.message().await.unwrap();
    let calling = async { unary.ask("hang").await };
    let stopping = async {
        running.echo.entered.acquire_many(2).await.unwrap().forget();
        running.handle.stop(PATIENCE).await
    };
    let (stopped, answer) = soon(async { tokio::join!(stopping, calling) }).await;
    let error = stopped.unwrap_err();
    assert_eq!(error.code(), Some(Code::Timeout));
    let text = error.chain().to_string();
    assert!(
        text.contains("2 calls on 1 connections were cut after 200ms"),
        "{text}"
    );
    answer.unwrap_err();
    soon(stream.message()).await.unwrap_err();
    running.notes.wait_for("Count CANCELLED").await;
}

#[tokio::test]
async fn f_life_02_silent_clients_do_not_hold_up_the_drain() {
    let mut running = serve(options()).await;
    let mut silent = Raw::silent(running.address).await;
    let mut half = Raw::silent(running.address).await;
    half.write(b"PRI * HTTP").await;
    let begun = Instant::now();
    running.handle.stop(PATIENCE).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    silent.closed().await;
    half.closed().await;
}

#[tokio::test]
async fn ml_grpc_2_a_client_that_takes_its_answer_slowly_gets_all_of_it() {
    let mut running = serve(options()).await;
    let mut silent = Raw::connect(running.address).await;
    let mut slow = Raw::connect(running.address).await;
    slow.send(HEADERS, END_HEADERS, 1, &call_headers("/test.v1.Echo/Unary", &[]))
        .await;
    slow.send(DATA, END_STREAM, 1, &message(&note("big", 300_000)))
        .await;
    // The handler is through, and the server has given out what the windows of 64 KiB allow.
    running.notes.wait_for("Unary OK").await;
    let taking = async {
        loop {
            let frame = slow.next().await.expect("the server closes");
            if frame.kind == PING {
                slow.send(PING, ACK, 0, &frame.payload).await;
                break;
            }
        }
        // That is how long a drain waits for a client that says nothing.
        silent.closed().await;
        for stream in [0, 1] {
            let window = 1_000_000u32.to_be_bytes();
            slow.send(WINDOW_UPDATE, 0, stream, &window).await;
        }
        while let Some(frame) = slow.next().await {
            if frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                return true;
            }
        }
        false
    };
    let (stopped, whole) = soon(async { tokio::join!(running.handle.stop(PATIENCE), taking) }).await;
    assert!(whole, "the answer was cut off");
    stopped.unwrap();
}
