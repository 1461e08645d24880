//! A broker behind a proxy with faults.

use std::net::SocketAddr;

use cqi_testkit::{
    fixture::{Options, Server},
    proxy::Proxy,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::broker::Broker;

/// A broker, and the only way to it that clients are told of.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
    /// What clients connect to.
    pub(crate) url: String,
    _relay: JoinSet<()>,
}

impl Broker {
    /// A broker of its own behind a proxy; `None` after saying that the test is skipped.
    pub(crate) async fn behind_proxy(self) -> Option<Line> {
        // Kafka tells its clients where to connect, so it must know the proxy before it starts; and the proxy must know
        // where to pass things on before there is a port. The relay knows both.
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(relay.local_addr().unwrap()).await.unwrap();
        let options = match self {
            Self::Nats => Options::new(),
            Self::Kafka => Options::new().line(format!("advertised.listeners=PLAINTEXT://{}", proxy.address())),
        };
        let server = self.start_with(&options)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(pass_on(relay, server.address()));
        Some(Line {
            url: format!("{}://{}", self.kind(), proxy.address()),
            server,
            proxy,
            _relay: tasks,
        })
    }
}

async fn pass_on(relay: TcpListener, server: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = relay.accept().await {
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(server).await {
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                // A connection that ends badly ends for both.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
