//! A server on a free port, and an observer that remembers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqi_core::{
    observe::{Observation, Observer},
    service::ServiceHandle,
    trace::TraceContext,
};
use cqi_grpc::{GrpcOptions, GrpcServer};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::echo::{Client, Echo};

/// The longest any wait of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A short deadline for what a test wants to see overdue.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn options() -> GrpcOptions {
    GrpcOptions::listen("127.0.0.1", 0)
}

pub(crate) fn server(options: GrpcOptions) -> GrpcServer {
    GrpcServer::new("grpc", options).unwrap()
}

/// Starts a server and waits until it listens.
pub(crate) async fn start(server: GrpcServer) -> (SocketAddr, ServiceHandle) {
    let mut bound = server.bound();
    let handle = ServiceHandle::start(server, PATIENCE).await.unwrap();
    (bound.address().await.unwrap(), handle)
}

/// A server with the echo service, what its observer notes, and a client.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServiceHandle,
    pub(crate) echo: Echo,
    pub(crate) notes: Arc<Notes>,
    pub(crate) client: Client<Channel>,
}

pub(crate) async fn serve(options: GrpcOptions) -> Running {
    serve_with(options, |server| server).await
}

pub(crate) async fn serve_with(
    options: GrpcOptions,
    build: impl FnOnce(GrpcServer) -> GrpcServer,
) -> Running {
    let (echo, notes) = (Echo::default(), Arc::new(Notes::default()));
    let observer: Arc<dyn Observer> = Arc::<Notes>::clone(&notes);
    let server = server(options).observer(observer).add(echo.clone()).unwrap();
    let (address, handle) = start(build(server)).await;
    Running {
        address,
        handle,
        echo,
        notes,
        client: Client::new(channel(address)),
    }
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

/// Waits for something, at most as long as a test is patient.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

/// Remembers what it is told, as text.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Waits until something with `part` was noted.
    pub(crate) async fn wait_for(&self, part: &str) {
        let seen = async {
            while !self.all().iter().any(|note| note.contains(part)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, seen)
            .await
            .unwrap_or_else(|_| panic!("no {part} in {:?}", self.all()));
    }
}

impl Observer for Notes {
    fn observe(&self, observation: &Observation<'_>) {
        let note = match observation {
            Observation::Served {
                protocol,
                method,
                route,
                status,
                response_bytes,
                ..
            } => format!("{protocol} {method} {route} {status} out={response_bytes}"),
            Observation::PanicRecovered { place } => format!("panic {place}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(note);
    }

    fn current_trace(&self) -> Option<TraceContext> {
        TraceContext::parse(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            Some("a=1"),
        )
    }

    fn continue_trace(
        &self,
        parent: Option<TraceContext>,
        open: &mut dyn FnMut() -> tracing::Span,
    ) -> tracing::Span {
        let parent = parent.iter().map(|parent| format!("trace {parent}"));
        self.0.lock().unwrap().extend(parent);
        open()
    }
}
