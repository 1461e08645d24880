//! The servers that this program is, in processes of their own.

mod collector;
mod configured;
pub(crate) mod discard;
mod layers;

use axum::{Router, routing::get};
use cqi::{Result, http::Json};
use serde::Serialize;

use crate::grpc::Echo;

/// What callers show where a key is asked for. All others are sent it too, so that all requests are the same.
pub(crate) const API_KEY: &str = "3f1b0c2e9a7d48653f1b0c2e9a7d4865";

/// What is behind the port. Of the layers of HTTP, each has those before it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// cqi's HTTP server without its layers.
    Bare,
    /// With limits and panic recovery.
    Limits,
    /// With request id and trace ids; no trace is recorded.
    Ids,
    /// With the access log.
    Log,
    /// With metrics.
    Metrics,
    /// With API keys.
    Key,
    /// With the export of every trace.
    Export,
    /// A configured service with everything on.
    Full,
    /// A handler on axum, and nothing else.
    Axum,
    /// A configured service of gRPC with everything on.
    Grpc,
    /// A service on tonic, and nothing else.
    Tonic,
    /// What takes traces, and drops them.
    Collector,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Bare,
        Self::Limits,
        Self::Ids,
        Self::Log,
        Self::Metrics,
        Self::Key,
        Self::Export,
        Self::Full,
        Self::Axum,
        Self::Grpc,
        Self::Tonic,
        Self::Collector,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Limits => "limits",
            Self::Ids => "ids",
            Self::Log => "log",
            Self::Metrics => "metrics",
            Self::Key => "key",
            Self::Export => "export",
            Self::Full => "full",
            Self::Axum => "axum",
            Self::Grpc => "grpc",
            Self::Tonic => "tonic",
            Self::Collector => "collector",
        }
    }

    /// Whether it answers `GET /hello`.
    pub(crate) fn is_http(self) -> bool {
        self <= Self::Axum
    }

    /// Whether it has a port for its metrics.
    pub(crate) fn is_configured(self) -> bool {
        matches!(self, Self::Full | Self::Grpc)
    }
}

/// A server and its ports on loopback.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    /// The collector of traces; 0: a configured service asks for no key and drops its traces itself, in batches.
    pub(crate) collector: u16,
    /// For the metrics of a configured service; 0: any.
    pub(crate) metrics: u16,
}

impl Served {
    /// Serves until the process is ended.
    pub(crate) async fn run(self) -> Result<()> {
        match self.kind {
            Kind::Axum => {
                let app = Router::new().route("/hello", get(|| async { axum::Json(HELLO) }));
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await;
                let served = axum::serve(listener.expect("a free port"), app).await;
                served.expect("a server that goes on");
                Ok(())
            }
            Kind::Tonic => {
                let server = tonic::transport::Server::builder().add_service(Echo);
                let served = server.serve(([127, 0, 0, 1], self.port).into()).await;
                served.expect("a server that goes on");
                Ok(())
            }
            Kind::Collector => {
                collector::serve(self.port).await;
                Ok(())
            }
            Kind::Full => configured::http(self).await,
            Kind::Grpc => configured::grpc(self).await,
            _ => layers::serve(self).await,
        }
    }

    /// The collector as a configuration names it.
    fn endpoint(self) -> String {
        format!("127.0.0.1:{}", self.collector)
    }
}

#[derive(Serialize)]
struct Hello {
    message: &'static str,
}

const HELLO: Hello = Hello { message: "hello" };

fn hello() -> Router {
    Router::new().route("/hello", get(|| async { Json(HELLO) }))
}

/// Where the log goes.
fn log_output() -> String {
    #[allow(
        clippy::disallowed_methods,
        reason = "the comparison's own way to say where the log goes"
    )]
    let output = std::env::var("LOG_OUT");
    output.unwrap_or_else(|_| "/dev/null".to_owned())
}
