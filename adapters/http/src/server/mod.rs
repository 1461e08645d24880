//! The HTTP server as a service of an app.

mod accept;
mod activity;
mod connection;
mod streams;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use axum::Router;
use cqi_core::{
    Code, Error, Result,
    auth::Verifier,
    health::Checker,
    name::check_name,
    observe::{Observer, Silent},
    service::{Lifecycle, Service},
    tls::{LiveTls, TlsFiles},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{AuthLayer, HttpOptions, Stack, layers::compression};

/// An HTTP/1.1 and HTTP/2 server for an axum router, with or without TLS. HTTP/2 is agreed on in the handshake, and
/// without TLS by prior knowledge.
///
/// Every request goes through the standard [`Stack`]. A shutdown stops accepting, closes idle connections, lets
/// requests in flight finish until `shutdown_grace` and cuts the rest.
pub struct HttpServer {
    name: String,
    router: Router,
    options: Arc<HttpOptions>,
    stack: Option<Arc<dyn Observer>>,
    auth: Option<AuthLayer>,
    listener: Option<TcpListener>,
    files: Option<TlsFiles>,
    tls: Option<LiveTls>,
    drain: CancellationToken,
    bound: watch::Sender<Option<SocketAddr>>,
}

impl HttpServer {
    /// A server called `name` for `router`, under the standard stack.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed name or listing every fault of the options.
    pub fn new(name: impl Into<String>, router: Router, options: HttpOptions) -> Result<Self> {
        let name = name.into();
        check_name(&name, "service")?;
        options.validate()?;
        let files = options.tls.clone();
        Ok(Self {
            files: files.map(|files| TlsFiles::new(files, &[b"h2", b"http/1.1"])),
            name,
            router,
            options: Arc::new(options),
            stack: Some(Arc::new(Silent)),
            auth: None,
            listener: None,
            tls: None,
            drain: CancellationToken::new(),
            bound: watch::Sender::new(None),
        })
    }

    /// Tells `observer` of every request, every panic, and the trace that came in.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.stack = Some(observer);
        self
    }

    /// Lets nobody pass but callers whom `verifier` accepts, and everybody to the open paths of the options (AUTH-3 to 7).
    /// Routes that do not exist are guarded too. See [`AuthLayer`].
    ///
    /// # Errors
    /// `InvalidInput` listing every fault of the options.
    pub fn auth(mut self, verifier: Arc<dyn Verifier>) -> Result<Self> {
        self.auth = Some(AuthLayer::new(verifier, &self.options.auth)?);
        Ok(self)
    }

    /// Checks whether the files of TLS can be used as they are now, under the name of the server and `_tls`; `None` without
    /// TLS. See [`TlsFiles::checker`].
    pub fn tls_checker(&self) -> Option<impl Checker + use<>> {
        let name = format!("{}_tls", self.name);
        self.files.as_ref().map(|files| files.checker(&name))
    }

    /// Leaves the standard stack away, for a router that has layers of its own.
    pub fn bare(mut self) -> Self {
        self.stack = None;
        self
    }

    /// Cancelled when the server begins to drain: a handler with an endless answer, or with a connection that went on in
    /// another protocol (a WebSocket), ends it then, or holds up the shutdown until it is cut.
    pub fn draining(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Tells where the server listens, once it does.
    pub fn bound(&self) -> Bound {
        Bound(self.bound.subscribe())
    }

    /// Takes the port now instead of when the server runs: the kernel then accepts connections, which wait. Reads the
    /// certificate and the key before, so that a fault in them leaves the port free.
    ///
    /// # Errors
    /// `Permanent` with the address and what to do when the port is taken, `InvalidInput` when the host is unknown or a
    /// file of TLS breaks a rule.
    pub async fn bind(&mut self) -> Result<SocketAddr> {
        if let Some(files) = &self.files {
            self.tls = Some(files.load().await?);
        }
        let HttpOptions { host, port, .. } = &*self.options;
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

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Service for HttpServer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(mut self: Box<Self>, lifecycle: Lifecycle) -> Result<()> {
        if self.listener.is_none() {
            self.bind().await?;
        }
        let Some(listener) = self.listener.take() else {
            return Err(Error::closed(&self.name));
        };
        let address = self.bound.borrow().map(tracing::field::display);
        tracing::info!(component = self.name, address, "listening");
        let mut router = self.router;
        if self.options.compression {
            router = router.layer(compression::layer());
        }
        let stack = self
            .stack
            .map(|observer| Stack::standard(observer, &self.options));
        // One layer of axum's for both: each costs every request some allocations.
        let router = match (stack.transpose()?, self.auth) {
            (Some(stack), Some(auth)) => router.layer((stack, auth)),
            (Some(stack), None) => router.layer(stack),
            (None, Some(auth)) => router.layer(auth),
            (None, None) => router,
        };
        // Puts the layers around the handlers now: axum would do so anew for every request.
        let router = router.with_state(());
        let tls = self.tls;
        let shared = connection::Shared::new(router, self.options, tls.clone(), self.drain);
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
