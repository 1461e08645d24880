//! Collectors to send to: one of gRPC, one of HTTP.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqi_core::tls::TlsOptions;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::{
    Request, Response, Status,
    transport::{Identity, ServerTlsConfig, server::TcpIncoming},
};

/// What a collector does with a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Take,
    /// Refuses some spans for good.
    Refuse(i64),
    Fail(Status),
    Hang,
}

/// A collector and what it got.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    got: Got,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Got {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    headers: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Collector {
    pub(super) async fn grpc(answer: Answer) -> Self {
        Self::start(answer, |listener, got| async move {
            let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(got));
            server
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        })
        .await
    }

    pub(super) async fn http(answer: Answer) -> Self {
        Self::start(answer, |listener, got| async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, got.clone()));
            }
        })
        .await
    }

    /// By gRPC over TLS.
    pub(super) async fn grpcs(tls: &TlsOptions) -> Self {
        let read = |file| std::fs::read(file).unwrap();
        let identity = Identity::from_pem(read(&tls.certificate), read(&tls.key));
        Self::start(Answer::Take, |listener, got| async move {
            let server = tonic::transport::Server::builder()
                .tls_config(ServerTlsConfig::new().identity(identity))
                .unwrap()
                .add_service(TraceServiceServer::new(got));
            server
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        })
        .await
    }

    /// By HTTP over TLS.
    pub(super) async fn https(tls: &TlsOptions) -> Self {
        let acceptor = TlsAcceptor::from(tls.server_config(&[b"http/1.1"]).unwrap());
        Self::start(Answer::Take, |listener, got| async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not believe the certificate goes away.
                if let Ok(stream) = acceptor.accept(stream).await {
                    connections.spawn(serve(stream, got.clone()));
                }
            }
        })
        .await
    }

    async fn start<F>(answer: Answer, serve: impl FnOnce(TcpListener, Got) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Got {
            requests: Arc::default(),
            headers: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, got.clone()));
        Self {
            address,
            got,
            _tasks: tasks,
        }
    }

    pub(super) fn answers(&self, answer: Answer) {
        *self.got.answer.lock().unwrap() = answer;
    }

    pub(super) fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.got.requests.lock().unwrap().clone()
    }

    /// The values of the header `authorization`.
    pub(super) fn tokens(&self) -> Vec<String> {
        self.got.headers.lock().unwrap().clone()
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let scopes = self
            .requests()
            .into_iter()
            .flat_map(|request| request.resource_spans);
        scopes
            .flat_map(|spans| spans.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }

    pub(super) fn span(&self, name: &str) -> Span {
        let spans = self.spans();
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {spans:#?}")).clone()
    }

    /// Waits until it got so many spans.
    pub(super) async fn until(&self, spans: usize) {
        until(|| self.spans().len() >= spans).await;
    }
}

/// Waits for a condition.
pub(in crate::tests) async fn until(condition: impl Fn() -> bool + Send + Sync) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it never came true");
}

/// Attributes as one can read them.
pub(super) fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, String> {
    let shown = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => format!("int {number}"),
        Some(Value::BoolValue(value)) => format!("bool {value}"),
        Some(Value::DoubleValue(value)) => format!("double {value}"),
        other => format!("{other:?}"),
    };
    pairs
        .iter()
        .map(|pair| (pair.key.as_str(), shown(&pair.value)))
        .collect()
}

impl Got {
    async fn take(
        &self,
        request: ExportTraceServiceRequest,
        token: Option<String>,
    ) -> Result<ExportTraceServiceResponse, Status> {
        let answer = self.answer.lock().unwrap().clone();
        let mut response = ExportTraceServiceResponse::default();
        match answer {
            Answer::Take => {}
            Answer::Refuse(rejected_spans) => {
                response.partial_success = Some(ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: "too old".into(),
                });
            }
            Answer::Fail(status) => return Err(status),
            Answer::Hang => std::future::pending().await,
        }
        self.headers.lock().unwrap().extend(token);
        self.requests.lock().unwrap().push(request);
        Ok(response)
    }
}

#[tonic::async_trait]
impl TraceService for Got {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let token = request
            .metadata()
            .get("authorization")
            .map(|token| token.to_str().unwrap().to_owned());
        self.take(request.into_inner(), token).await.map(Response::new)
    }
}

/// The least of HTTP/1.1: one request after another, with a length.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, got: Got) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(read.drain(..end + 4).collect()).unwrap();
                break head.to_ascii_lowercase();
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let field = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        assert!(head.starts_with("post /v1/traces "), "{head}");
        assert_eq!(field("content-type:"), Some("application/x-protobuf"));
        let length: usize = field("content-length:").unwrap().parse().unwrap();
        while read.len() < length {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        let body: Vec<u8> = read.drain(..length).collect();
        let request = ExportTraceServiceRequest::decode(&*body).unwrap();
        let (status, body) = match got
            .take(request, field("authorization:").map(str::to_owned))
            .await
        {
            Ok(response) => ("200 OK", response.encode_to_vec()),
            Err(status) if status.code() == tonic::Code::Unavailable => ("503 Later", Vec::new()),
            Err(_) => ("400 Never", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    }
}
