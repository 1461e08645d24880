//! Requests to go on in another protocol.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use cqi_core::service::ServiceHandle;
use cqi_http::{HttpOptions, HttpServer};
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    task::JoinSet,
};

use crate::support::{Answer, Client, PATIENCE, SHORT, ask, options, serve, start};

/// Tasks of connections that went on in another protocol, each with what it ended with.
type Switched = Arc<Mutex<JoinSet<std::io::Result<()>>>>;

/// A route that goes on as WebSocket routes do, and says back what it hears.
async fn switching(mut request: Request, switched: Switched) -> Response {
    let asked = request.headers().get(header::UPGRADE).cloned();
    let Some(asked) = asked.filter(|asked| asked == "websocket") else {
        return Response::new(Body::from("hello"));
    };
    let upgraded = hyper::upgrade::on(&mut request);
    switched.lock().await.spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.map_err(std::io::Error::other)?);
        let mut heard = [0; 4];
        loop {
            stream.read_exact(&mut heard).await?;
            stream.write_all(&heard).await?;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::UPGRADE, asked);
    response
        .headers_mut()
        .insert(header::CONNECTION, "upgrade".parse().unwrap());
    response
}

fn router(switched: &Switched) -> Router {
    let switched = Arc::clone(switched);
    Router::new()
        .route("/", get(move |request| switching(request, Arc::clone(&switched))))
        .route("/plain", get(|| async { "hello" }))
}

fn asking(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

async fn asked(lines: &str, upgrades: &[&str]) -> Answer {
    let options = HttpOptions {
        upgrades: upgrades.iter().map(|name| (*name).to_owned()).collect(),
        ..options()
    };
    let (address, _handle) = serve(router(&Switched::default()), options).await;
    ask(address, asking(lines)).await
}

#[tokio::test]
async fn h_17_an_unknown_protocol_is_answered_with_426_and_what_is_spoken() {
    for lines in [
        "Connection: Upgrade\r\nUpgrade: unknown\r\n",
        "Connection: keep-alive, upgrade\r\nUpgrade: a/1, b/2\r\n",
        "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
        "Connection: upgrade\r\nUpgrade: \u{e9}\r\n",
        "Connection: upgrade\r\nUpgrade: websockets\r\n",
    ] {
        let answer = asked(lines, &["websocket"]).await;
        assert_eq!(answer.status, 426, "{lines:?}");
        assert_eq!(answer.header("upgrade"), Some("websocket"), "{lines:?}");
        assert_eq!(answer.header("connection"), Some("upgrade"), "{lines:?}");
        assert!(answer.body.contains("UNSUPPORTED"), "{answer:?}");
    }
    let answer = asked("Connection: upgrade\r\nUpgrade: websocket\r\n", &[]).await;
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("HTTP/1.1")));
}

#[tokio::test]
async fn h_17_what_clients_ask_for_in_passing_does_not_matter() {
    for lines in [
        // As Java's, curl's and Apache's clients do.
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Connection: Upgrade\r\nUpgrade: HTTP/2.0, unknown\r\n",
        // Meant for somebody before us, or not understood by whoever wrote it.
        "Upgrade: unknown\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
        "Connection: upgrade\r\n",
    ] {
        let answer = asked(lines, &["websocket"]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"), "{lines:?}");
    }
    let (address, _handle) = serve(router(&Switched::default()), options()).await;
    let old = "GET /plain HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: unknown\r\n\r\n";
    assert_eq!(ask(address, old).await.status, 200, "HTTP/1.0 cannot ask");
    let mut client = Client::connect(address).await;
    let websocket = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for _ in 0..2 {
        let answer = client.get_with("/plain", websocket).await;
        assert_eq!(answer.status, 200, "a route that does not take what is offered");
    }
}

struct Running {
    address: SocketAddr,
    handle: ServiceHandle,
}

/// A connection that speaks another protocol, to a server that can be stopped.
async fn switched(change: impl FnOnce(&mut HttpOptions)) -> (Client, Running, Switched) {
    let tasks = Switched::default();
    let mut options = options();
    change(&mut options);
    let server = HttpServer::new("http", router(&tasks), options).unwrap();
    let (address, handle) = start(server).await;
    let mut client = Client::connect(address).await;
    client
        .send(asking("Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        .await;
    assert_eq!(client.answer().await.unwrap().status, 101);
    client.send("ping").await;
    client.hears("ping").await;
    (client, Running { address, handle }, tasks)
}

#[tokio::test]
async fn h_17_a_route_goes_on_as_a_websocket_under_the_whole_stack() {
    let (mut client, _handle, tasks) = switched(|options| {
        (options.header_timeout, options.idle_timeout) = (SHORT, SHORT);
        options.request_timeout = SHORT;
    })
    .await;
    // None of the limits of requests ends it.
    tokio::time::sleep(SHORT * 3).await;
    client.send("pong").await;
    client.hears("pong").await;
    drop(client);
    let ended = tasks.lock().await.join_next().await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn h_17_the_drain_waits_for_it_and_cuts_it_at_last() {
    let (mut client, mut running, tasks) = switched(|options| options.shutdown_grace = SHORT).await;
    let error = running.handle.stop(PATIENCE).await.unwrap_err();
    assert!(
        error.chain().to_string().contains("1 connections were cut"),
        "{error:?}"
    );
    let ended = tasks.lock().await.join_next().await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    client.closed().await;

    // It does not wait for nobody.
    let (client, mut running, _tasks) = switched(|_| {}).await;
    drop(client);
    running.handle.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn h_17_it_counts_as_a_connection_of_its_client() {
    let (client, running, tasks) = switched(|options| options.max_connections_per_client = 1).await;
    let address = running.address;
    Client::connect(address).await.closed().await;
    drop(client);
    tasks
        .lock()
        .await
        .join_next()
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    let again = async {
        loop {
            let mut client = Client::connect(address).await;
            client.send(asking("")).await;
            if client.answer().await.is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("it counts for ever");
}
