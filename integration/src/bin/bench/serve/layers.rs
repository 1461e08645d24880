//! cqi's HTTP server with some of its layers.

use std::sync::Arc;

use cqi::{
    Result,
    auth::ApiKeys,
    config::{LogConfig, MetricsConfig, TracingConfig},
    http::{HttpOptions, HttpServer, Stack},
    observe::{Observer, Silent},
    secret::Secret,
    service::{App, ServiceMetadata},
    telemetry::{ServiceIdentity, Telemetry},
};

use super::{API_KEY, Kind, Served, hello, log_output};

pub(super) async fn serve(served: Served) -> Result<()> {
    let options = HttpOptions::listen("127.0.0.1", served.port);
    let server = match served.kind {
        Kind::Bare => HttpServer::new("http", hello(), options)?.bare(),
        Kind::Limits => {
            let layers = (Stack::limits(&options)?, Stack::recovery(Arc::new(Silent)));
            HttpServer::new("http", hello().layer(layers), options)?.bare()
        }
        // From here on the standard stack: what is off is so as a configuration has it.
        kind => {
            let server = HttpServer::new("http", hello(), options)?.observer(observer(served)?);
            if kind < Kind::Key {
                server
            } else {
                let keys = ApiKeys::parse([Secret::new(format!("bench:{API_KEY}"))])?;
                server.auth(Arc::new(keys))?
            }
        }
    };
    App::new(ServiceMetadata::new("bench", "1.0.0"))?
        .service(server)
        .run()
        .await
}

fn observer(served: Served) -> Result<Arc<dyn Observer>> {
    let kind = served.kind;
    let log = LogConfig {
        level: if kind < Kind::Log { "warn" } else { "info" }.to_owned(),
        output: log_output(),
        ..LogConfig::default()
    };
    let metrics = MetricsConfig {
        enabled: kind >= Kind::Metrics,
        ..MetricsConfig::default()
    };
    let tracing = TracingConfig {
        endpoint: served.endpoint(),
        sample_rate: if kind < Kind::Export { 0.0 } else { 1.0 },
        ..TracingConfig::default()
    };
    let service = ServiceIdentity::new("bench").with_version("1.0.0");
    Ok(Telemetry::init(&log, &metrics, &tracing, service)?.observer())
}
