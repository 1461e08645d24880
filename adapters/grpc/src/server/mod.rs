//! The gRPC server as a service of an app.

mod accept;
mod activity;
mod connection;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use cqi_core::{
    Code, Error, Result,
    auth::Requirement,
    health::{Checker, Health},
    name::check_name,
    observe::{Observer, Silent},
    service::{Lifecycle, Service},
    tls::{LiveTls, TlsFiles},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::activity::Active;
use self::connection::Shared;
use crate::{
    GrpcAuth, GrpcOptions,
    health::HealthService,
    reflection,
    stack::{GrpcService, Services, Stack},
};

/// A gRPC server for tonic services (ML-GRPC-1).
///
/// Every call, unary or streaming, goes through the same layers: request id, trace, log, metrics, panic recovery,
/// deadlines, message limits, authentication. A shutdown stops accepting, tells clients to go elsewhere, lets calls in
/// flight finish until `shutdown_grace` and cuts the rest.
pub struct GrpcServer {
    name: String,
    options: Arc<GrpcOptions>,
    files: Option<TlsFiles>,
    services: Services,
    auth: Option<GrpcAuth>,
    observer: Arc<dyn Observer>,
    drain: CancellationToken,
    listener: Option<TcpListener>,
    bound: watch::Sender<Option<SocketAddr>>,
}

impl GrpcServer {
    /// A server called `name`, without services yet.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed name or listing every fault of the options.
    pub fn new(name: impl Into<String>, options: GrpcOptions) -> Result<Self> {
        let name = name.into();
        check_name(&name, "service")?;
        options.validate()?;
        let files = options.tls.clone();
        Ok(Self {
            files: files.map(|files| TlsFiles::new(files, &[b"h2"])),
            name,
            options: Arc::new(options),
            services: Services::default(),
            auth: None,
            observer: Arc::new(Silent),
            drain: CancellationToken::new(),
            listener: None,
            bound: watch::Sender::new(None),
        })
    }

    /// Adds a service, as tonic generates it.
    ///
    /// # Errors
    /// `InvalidInput`/`AlreadyExists` when the service is there already.
    #[allow(clippy::should_implement_trait)] // it is no sum
    pub fn add<S: GrpcService>(mut self, service: S) -> Result<Self> {
        self.services.add(service, false)?;
        Ok(self)
    }

    /// Adds the health service `grpc.health.v1.Health`: `Check` and `Watch` answer with the readiness of `health`, for
    /// the whole server (the empty name) and each of its services alike, and NOT_SERVING as soon as the server drains
    /// (ML-GRPC-10).
    ///
    /// # Errors
    /// `InvalidInput`/`AlreadyExists` when it is there already.
    pub fn health(mut self, health: &Health) -> Result<Self> {
        let service = HealthService::new(health.clone(), self.services.names(), self.drain.clone());
        self.services.add(service.into_server(), true)?;
        let methods = reflection::methods(tonic_health::pb::FILE_DESCRIPTOR_SET)?;
        self.services.declare(methods);
        Ok(self)
    }

    /// Adds server reflection, v1 and v1alpha, for the services of an encoded `FileDescriptorSet`; that of health and
    /// of reflection itself are included. It tells the world what the server can do, so it is off by default (G-09).
    /// The methods of the set are known by name in metrics from their first call on, whatever becomes of it; others once
    /// they have answered.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed set, `InvalidInput`/`AlreadyExists` when reflection is there already.
    pub fn reflection(mut self, descriptors: &[u8]) -> Result<Self> {
        let (v1, v1alpha) = reflection::services(descriptors)?;
        self.services.add(v1, true)?;
        self.services.add(v1alpha, true)?;
        let own = [
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        for descriptors in [descriptors, own[0], own[1]] {
            self.services.declare(reflection::methods(descriptors)?);
        }
        Ok(self)
    }

    /// Asks every caller who it is, on all services but the open ones. Without it, everybody may call what has no
    /// [`GrpcServer::require`].
    pub fn auth(mut self, auth: GrpcAuth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Demands more of the callers of `target`, a service (`package.Service`) or one of its methods
    /// (`package.Service/Method`). Of several requirements that fit, all hold.
    ///
    /// # Errors
    /// `InvalidInput` when the service was not added before.
    pub fn require(mut self, target: &str, requirement: Requirement) -> Result<Self> {
        self.services.require(target, requirement)?;
        Ok(self)
    }

    /// Tells `observer` of every call, every panic, and the trace that came in.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Checks whether the files of TLS can be used as they are now, under the name of the server and `_tls`; `None` without
    /// TLS. See [`TlsFiles::checker`].
    pub fn tls_checker(&self) -> Option<impl Checker + use<>> {
        let name = format!("{}_tls", self.name);
        self.files.as_ref().map(|files| files.checker(&name))
    }

    /// Cancelled when the server begins to drain: a handler with an endless stream ends it then, or holds up the
    /// shutdown until it is cut.
    pub fn draining(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Tells where the server listens, once it does.
    pub fn bound(&self) -> Bound {
        Bound(self.bound.subscribe())
    }

    /// Takes the port now instead of when the server runs: the kernel then accepts connections, which wait.
    ///
    /// # Errors
    /// `Permanent` with the address and what to do when the port is taken, `InvalidInput` when the host is unknown.
    pub async fn bind(&mut self) -> Result<SocketAddr> {
        let GrpcOptions { host, port, .. } = &*self.options;
        let failed = |error: io::Error| {
            let address = format!("{host}:{port}");
            match error.kind() {
                io::ErrorKind::AddrInUse => Error::permanent(format!(
                    "{address} is already in use: stop what listens there, or configure another port"
                ))
                .with_code(Code::Unavailable),
                io::ErrorKind::PermissionDenied => Error::permanent(format!(
                    "{address} may not be listened on: ports below 1024 need a privilege, choose a higher one"
                )),
                _ => Error::invalid_input(format!("{address} cannot be listened on")),
            }
            .with_source(error)
        };
        let listener = TcpListener::bind((host.as_str(), *port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        self.listener = Some(listener);
        self.bound.send_replace(Some(address));
        Ok(address)
    }
}

impl fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcServer")
            .field("name", &self.name)
            .field("options", &self.options)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Service for GrpcServer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(mut self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        let tls = match &self.files {
            Some(files) => Some(files.load().await?),
            None => None,
        };
        if self.listener.is_none() {
            self.bind().await?;
        }
        let Some(listener) = self.listener.take() else {
            return Err(Error::closed(&self.name));
        };
        let address = self.bound.borrow().map(tracing::field::display);
        tracing::info!(component = self.name, address, tls = tls.is_some(), "listening");
        let shared = Shared {
            stack: Arc::new(Stack::new(self.services, self.auth, self.observer, &self.options)),
            options: self.options,
            tls: tls.clone(),
            calls: TaskTracker::new(),
            drain: self.drain,
        };
        tokio::select! {
            ended = accept::serve(listener, shared, lifecycle) => ended,
            never = LiveTls::follow_if_any(tls.as_ref()) => match never {},
        }
    }
}

/// Where a server listens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bound(watch::Receiver<Option<SocketAddr>>);

impl Bound {
    /// Waits until the server listens and gives the address, with the real port. Cancel-safe.
    ///
    /// # Errors
    /// `Closed` when the server ended without ever listening.
    pub async fn address(&mut self) -> Result<SocketAddr> {
        let bound = self.0.wait_for(Option::is_some).await;
        bound
            .ok()
            .and_then(|address| *address)
            .ok_or_else(|| Error::closed("the server"))
    }
}
