//! A broker behind a proxy with faults.

use cqi_testkit::{
    fixture::{Options, Server},
    proxy::Proxy,
};

use super::broker::Broker;

/// A broker, and the only way to it that clients are told of.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) proxy: Proxy,
    /// What clients connect to.
    pub(crate) url: String,
    _server: Server,
}

impl Broker {
    /// A broker of its own behind a proxy; `None` after saying that the test is skipped.
    pub(crate) async fn behind_proxy(self) -> Option<Line> {
        // Kafka tells its clients where to connect, so it must know the proxy before it starts.
        let nowhere = ([127, 0, 0, 1], 9).into();
        let proxy = Proxy::start(nowhere).await.unwrap();
        let options = match self {
            Self::Nats => Options::new(),
            Self::Kafka => {
                Options::new().line(format!("advertised.listeners=PLAINTEXT://{}", proxy.address()))
            }
        };
        let server = self.start_with(&options)?;
        proxy.redirect(server.address());
        Some(Line {
            url: format!("{}://{}", self.kind(), proxy.address()),
            proxy,
            _server: server,
        })
    }
}
