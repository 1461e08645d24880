//! Services as the facade makes them of a configuration, with logs, metrics, traces and API keys.

use axum::routing::get;
use cqi::{
    Cqi, Result,
    config::Config,
    event::{Json as Body, Received, Router as Events},
    name::topic_name,
    secret::Secret,
    telemetry::{ServiceIdentity, Telemetry},
};

use super::{API_KEY, Served, discard, hello, log_output};
use crate::grpc::Echo;

/// A service of HTTP, which has a subscriber too.
pub(super) async fn http(served: Served) -> Result<()> {
    let mut config = config(served)?;
    config.server.port = served.port;
    let cqi = Cqi::connect(config).await?;
    let metrics = cqi.metrics().clone();
    let routes = hello()
        .route("/panic", get(panics))
        .route("/metrics", get(move || std::future::ready(metrics.render())));
    let events = Events::new().on(topic_name("bench")?, |_: Received<Body<String>>| async { Ok(()) });
    cqi.http(routes).subscriber(events)?.app()?.run().await
}

/// A service of gRPC.
pub(super) async fn grpc(served: Served) -> Result<()> {
    let mut config = config(served)?;
    config.grpc.host = "127.0.0.1".to_owned();
    config.grpc.port = served.port;
    let cqi = Cqi::connect(config).await?;
    cqi.grpc(|server| server.add(Echo))?.app()?.run().await
}

fn config(served: Served) -> Result<Config> {
    std::panic::set_hook(Box::new(|_| {})); // the log says it, as in a program that begins with `cqi::run`
    let mut config = Config {
        service_name: "bench".to_owned(),
        service_version: "1.0.0".to_owned(),
        ..Config::default()
    };
    config.server.host = "127.0.0.1".to_owned();
    config.metrics.host = "127.0.0.1".to_owned();
    config.metrics.port = served.metrics;
    config.logging.output = log_output();
    config.tracing.sample_rate = 1.0;
    if served.collector == 0 {
        let service = ServiceIdentity::new(&*config.service_name).with_version(&*config.service_version);
        let (logging, metrics, tracing) = (&config.logging, &config.metrics, &config.tracing);
        // The service takes what is installed for the process already.
        Telemetry::init_with(logging, metrics, tracing, service, discard::options())?;
    } else {
        config.tracing.endpoint = served.endpoint();
        config.auth.api_keys = vec![Secret::new(format!("bench:{API_KEY}"))];
    }
    Ok(config)
}

async fn panics() {
    panic!("on purpose");
}
