//! How spans are sent.

use std::{path::PathBuf, time::Duration};

use cqi_core::{Error, Result, secret::Secret};

/// The port of OTLP over gRPC, where an endpoint names none.
const GRPC_PORT: u16 = 4317;

/// How finished spans are kept and sent.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The most spans that wait; further ones are dropped and counted. Default 2,048, at least 1.
    pub queue: usize,
    /// The most spans of one request. Default 512, at least 1.
    ///
    /// One is sent as soon as an eighth of that waits: a busy program sends often and little, which holds up its other
    /// threads least, and the more at once the longer the collector takes.
    pub batch: usize,
    /// How long the first span of a request waits for company, while there are fewer. Default 1 s.
    pub delay: Duration,
    /// How long the collector has for one request. Default 5 s.
    pub timeout: Duration,
    /// How often one batch is sent before it is given up, if the failure may pass. Default 5, at least 1.
    pub attempts: u32,
    /// The pause after the first failed attempt; each further one is twice as long. Default 500 ms.
    pub backoff: Duration,
    /// `deployment.environment.name` of the resource, such as `production`; empty: left out. Default empty.
    pub environment: String,
    /// Headers of each request, such as the token of a hosted collector, beside the configured ones, which replace those
    /// of the same name. Names in lower case. Default none.
    pub headers: Vec<(String, Secret)>,
    /// A PEM file with roots that vouch for the collector, beside those of the web. Default none.
    pub roots: Option<PathBuf>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            queue: 2048,
            batch: 512,
            delay: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            attempts: 5,
            backoff: Duration::from_millis(500),
            environment: String::new(),
            headers: Vec::new(),
            roots: None,
        }
    }
}

impl ExportOptions {
    /// How many spans are worth a request at once.
    pub(super) fn enough(&self) -> usize {
        self.batch.min(self.queue).div_ceil(8)
    }
}

/// Where spans are sent, and over which protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// OTLP over gRPC, to the origin `http(s)://host:port`.
    Grpc(String),
    /// OTLP as protobuf over HTTP, to this URL.
    Http(String),
}

impl Endpoint {
    /// Reads `host:port` or `http(s)://host:port` (gRPC) or a URL with a path (HTTP). Empty is none.
    pub(super) fn parse(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        // The text itself is not shown: somebody may have put a password into it.
        let wrong = |why: &str| Err(Error::invalid_input(format!("tracing.endpoint {why}")));
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !matches!(scheme, "http" | "https") {
            return wrong("must be host:port or begin with http:// or https://");
        }
        let url = format!("{scheme}://{rest}");
        let Ok(uri) = url.parse::<tonic::transport::Uri>() else {
            return wrong("is no host:port and no URL");
        };
        if rest.contains('@') {
            return wrong("must not hold a user or a password; use a header");
        }
        let host = uri.host().unwrap_or_default();
        let port_is_wrong = uri
            .authority()
            .is_some_and(|authority| authority.as_str().len() > host.len() && uri.port_u16().is_none());
        if host.is_empty() || port_is_wrong {
            return wrong("must name a host, and a port from 1 to 65535");
        }
        Ok(Some(match (uri.path(), uri.query(), uri.port_u16()) {
            ("" | "/", None, Some(port)) => Self::Grpc(format!("{scheme}://{host}:{port}")),
            ("" | "/", None, None) => Self::Grpc(format!("{scheme}://{host}:{GRPC_PORT}")),
            _ => Self::Http(url),
        }))
    }

    /// The address, for log lines.
    pub(super) fn address(&self) -> &str {
        match self {
            Self::Grpc(origin) => origin,
            // A query may hold a key.
            Self::Http(url) => url.split('?').next().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trc_1_an_endpoint_is_read() {
        let grpc = |origin: &str| Some(Endpoint::Grpc(origin.to_owned()));
        for (text, expected) in [
            ("", None),
            ("localhost:4317", grpc("http://localhost:4317")),
            ("collector", grpc("http://collector:4317")),
            ("http://127.0.0.1:1", grpc("http://127.0.0.1:1")),
            ("https://[::1]:4317/", grpc("https://[::1]:4317")),
            (
                "http://host:4318/v1/traces",
                Some(Endpoint::Http("http://host:4318/v1/traces".into())),
            ),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn trc_1_a_wrong_endpoint_is_an_error_that_shows_no_password() {
        for bad in [
            "ftp://host:1",
            "http://",
            "host:99999",
            "host:",
            "a b:1",
            "http://user:hunter2@host:1",
        ] {
            let error = Endpoint::parse(bad).unwrap_err();
            assert!(error.is_invalid_input(), "{bad}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
