//! The servers.

use axum::{Router, routing::get};
use cqi::{
    Cqi, Result,
    config::Config,
    event::{Json as Body, Received, Router as Events},
    http::{HttpOptions, HttpServer, Json},
    name::topic_name,
    service::{App, ServiceMetadata},
};
use serde::Serialize;

use super::Kind;

#[derive(Serialize)]
struct Hello {
    message: &'static str,
}

const HELLO: Hello = Hello { message: "hello" };

/// Serves on a port of loopback until the process is ended.
pub(crate) async fn serve(kind: Kind, port: u16) -> Result<()> {
    match kind {
        Kind::Axum => {
            let app = Router::new().route("/hello", get(|| async { axum::Json(HELLO) }));
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
            let served = axum::serve(listener.expect("a free port"), app).await;
            served.expect("a server that goes on");
            Ok(())
        }
        Kind::Bare => {
            let options = HttpOptions::listen("127.0.0.1", port);
            let server = HttpServer::new("http", hello(), options)?.bare();
            App::new(ServiceMetadata::new("bench", "1.0.0"))?
                .service(server)
                .run()
                .await
        }
        Kind::Full => full(port).await,
    }
}

fn hello() -> Router {
    Router::new().route("/hello", get(|| async { Json(HELLO) }))
}

/// A service as the facade makes it, with every port, a subscriber, logs, metrics and traces.
async fn full(port: u16) -> Result<()> {
    std::panic::set_hook(Box::new(|_| {})); // the log says it, as in a program that begins with `cqi::run`
    let mut config = Config {
        service_name: "bench".to_owned(),
        service_version: "1.0.0".to_owned(),
        ..Config::default()
    };
    config.server.host = "127.0.0.1".to_owned();
    config.server.port = port;
    config.metrics.host = "127.0.0.1".to_owned();
    config.metrics.port = 0;
    #[allow(
        clippy::disallowed_methods,
        reason = "the comparison's own way to say where the log goes"
    )]
    let output = std::env::var("LOG_OUT");
    config.logging.output = output.unwrap_or_else(|_| "/dev/null".to_owned());
    let cqi = Cqi::connect(config).await?;
    let metrics = cqi.metrics().clone();
    let routes = hello()
        .route("/panic", get(panics))
        .route("/metrics", get(move || std::future::ready(metrics.render())));
    let events = Events::new().on(topic_name("bench")?, |_: Received<Body<String>>| async { Ok(()) });
    cqi.http(routes).subscriber(events)?.app()?.run().await
}

async fn panics() {
    panic!("on purpose");
}
