//! Sending spans to a collector: over gRPC, or as protobuf over HTTP.

use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use cqi_core::{Error, Result, tls::ClientTlsOptions};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use rustls::RootCertStore;
use tonic::{
    Code, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{MetadataKey, MetadataMap},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint as Origin},
};

use super::{
    codec::Encoded,
    options::{Endpoint, ExportOptions},
};

/// The method that takes traces.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A link to a collector. It connects when it is used, and again when it was cut.
#[derive(Debug)]
pub(super) struct Client {
    kind: Kind,
    timeout: Duration,
}

#[derive(Debug)]
enum Kind {
    Grpc(Box<Grpc<Channel>>, MetadataMap),
    Http(reqwest::Client, String),
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether the same request may be taken later.
    pub(super) may_pass: bool,
    pub(super) why: String,
}

impl Client {
    /// Must be called inside the runtime that sends.
    pub(super) fn new(endpoint: &Endpoint, options: &ExportOptions) -> Result<Self> {
        let kind = match endpoint {
            Endpoint::Grpc(origin) => Kind::Grpc(Box::new(grpc(origin, options)?), metadata(options)?),
            Endpoint::Http(url) => Kind::Http(http(options)?, url.clone()),
        };
        Ok(Self {
            kind,
            timeout: options.timeout,
        })
    }

    /// Sends one request, an `ExportTraceServiceRequest`. Says how many of its spans the collector refused.
    pub(super) async fn send(&mut self, request: Bytes) -> Result<u64, Failure> {
        let timeout = self.timeout;
        let send = async {
            match &mut self.kind {
                Kind::Grpc(client, metadata) => send_grpc(client, metadata, request).await,
                Kind::Http(client, url) => send_http(client, url, request).await,
            }
        };
        tokio::time::timeout(timeout, send).await.unwrap_or_else(|_| {
            Err(Failure {
                may_pass: true,
                why: format!("no answer within {timeout:?}"),
            })
        })
    }
}

fn refused(what: &str, error: impl StdError + Send + Sync + 'static) -> Error {
    Error::invalid_input(format!("the exporter of traces cannot use {what}")).with_source(error)
}

fn grpc(origin: &str, options: &ExportOptions) -> Result<Grpc<Channel>> {
    let mut endpoint = Origin::from_shared(origin.to_owned())
        .map_err(|error| refused("the endpoint", error))?
        .connect_timeout(options.timeout)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(options.timeout);
    if origin.starts_with("https:") {
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        if let Some(file) = &options.roots {
            let pem = std::fs::read(file).map_err(|error| refused("the file of roots", error))?;
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        endpoint = endpoint
            .tls_config(tls)
            .map_err(|error| refused("the certificates", error))?;
    }
    Ok(Grpc::new(endpoint.connect_lazy()))
}

fn metadata(options: &ExportOptions) -> Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    for (name, value) in &options.headers {
        let name =
            MetadataKey::from_bytes(name.as_bytes()).map_err(|error| refused("a header's name", error))?;
        let mut value: tonic::metadata::AsciiMetadataValue = value
            .expose()
            .parse()
            .map_err(|error| refused("a header's value", error))?;
        value.set_sensitive(true);
        metadata.insert(name, value);
    }
    Ok(metadata)
}

async fn send_grpc(
    client: &mut Grpc<Channel>,
    metadata: &MetadataMap,
    request: Bytes,
) -> Result<u64, Failure> {
    let mut request = tonic::Request::new(request);
    *request.metadata_mut() = metadata.clone();
    let method = PathAndQuery::from_static(EXPORT);
    let answer = async {
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        client.unary(request, method, Encoded).await
    };
    match answer.await {
        Ok(answer) => Ok(rejected(answer.get_ref())),
        // The codes that OTLP calls retryable.
        Err(status) => Err(Failure {
            may_pass: matches!(
                status.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            ),
            why: chain(&status, format!("{:?}: {}", status.code(), status.message())),
        }),
    }
}

fn http(options: &ExportOptions) -> Result<reqwest::Client> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    for (name, value) in &options.headers {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|error| refused("a header's name", error))?;
        let mut value =
            HeaderValue::from_str(value.expose()).map_err(|error| refused("a header's value", error))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let web = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let tls = ClientTlsOptions {
        roots: options.roots.clone(),
        ..ClientTlsOptions::default()
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.client_config(web, &[b"h2", b"http/1.1"])?)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(options.timeout)
        .timeout(options.timeout)
        .build()
        .map_err(|error| refused("HTTP", error))
}

async fn send_http(client: &reqwest::Client, url: &str, request: Bytes) -> Result<u64, Failure> {
    /// What is read of an answer: it says how many spans were refused, and why.
    const ANSWER: usize = 64 << 10;
    let failed = |may_pass, why| Failure { may_pass, why };
    let answer = client.post(url).body(request).send().await;
    // The URL is left out: its query may hold a key.
    let mut answer = answer.map_err(reqwest::Error::without_url).map_err(|error| {
        let why = error.to_string();
        failed(!error.is_builder(), chain(&error, why))
    })?;
    let status = answer.status();
    if !status.is_success() {
        // The ones that OTLP calls retryable.
        let may_pass = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        return Err(failed(may_pass, format!("status {status}")));
    }
    let mut body = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        if body.len() + part.len() > ANSWER {
            return Ok(0);
        }
        body.extend_from_slice(&part);
    }
    // Success it is, whatever the body says.
    Ok(ExportTraceServiceResponse::decode(&*body).map_or(0, |answer| rejected(&answer)))
}

fn rejected(answer: &ExportTraceServiceResponse) -> u64 {
    let partial = answer.partial_success.as_ref();
    partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

/// `text`, and the causes of `error` that say something new.
fn chain(error: &dyn StdError, mut text: String) -> String {
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
