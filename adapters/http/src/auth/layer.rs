//! The layer that asks the verifier.

use std::{
    convert::Infallible,
    fmt, mem,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, extract::OriginalUri, response::Response};
use cqi_core::{
    Error, Result,
    auth::{AuthContext, Authenticator, Verifier, bearer, refused},
    secret::Secret,
};
use http::{Extensions, HeaderMap, Request, header::AUTHORIZATION};
use tower::{Layer, Service};

use super::{AuthOptions, future::AuthFuture};
use crate::client_ip::client_ip;

/// Who the client of a TLS connection is, among the extensions of its requests.
#[derive(Debug, Clone)]
pub(crate) struct PeerIdentity(pub(crate) Arc<AuthContext>);

/// A [`tower::Layer`] that lets nobody pass but verified callers (AUTH-3, 5): for [`axum::Router::layer`], which guards
/// the fallback and methods that are not allowed too. [`HttpServer::auth`](crate::HttpServer::auth) puts it in place;
/// use it directly where routes of one server need different verifiers.
///
/// The credential is what stands after `Bearer ` in the only `Authorization` header; a query string is not looked at
/// (A-22). A verified caller is an `Arc<AuthContext>` among the extensions of the request, the extractor
/// [`Caller`](crate::Caller), and [`cqi_core::auth::current`] below the handler.
///
/// Every refusal is the same 401, whatever was wrong; one whose caller is known but may not do this is 403. A verifier
/// that cannot decide, or not in time, is 503 with `Retry-After` (A-26).
///
/// ```
/// # use std::sync::Arc;
/// # use axum::{Router, routing::get};
/// # use cqi_core::{Result, auth::ApiKeys};
/// # use cqi_http::{AuthLayer, AuthOptions};
/// # fn routes(partners: ApiKeys, staff: ApiKeys) -> Result<Router> {
/// let options = AuthOptions::default();
/// let partners = AuthLayer::new(Arc::new(partners), &options)?;
/// let staff = AuthLayer::new(Arc::new(staff), &options)?;
/// let routes = Router::new()
///     .nest("/partners", Router::new().route("/orders", get(|| async {})).layer(partners))
///     .nest("/staff", Router::new().route("/orders", get(|| async {})).layer(staff));
/// # Ok(routes)
/// # }
/// ```
#[derive(Clone)]
pub struct AuthLayer(Arc<Auth>);

pub(super) struct Auth {
    authenticator: Authenticator,
    open_paths: Box<[String]>,
    client_certificates: bool,
}

/// What a request brings along.
pub(super) enum Given {
    /// What was in the header; an error for something in place of a credential.
    Bearer(Result<Secret>),
    Certificate(Arc<AuthContext>),
    Nothing,
}

impl AuthLayer {
    /// Lets pass whom `verifier` accepts.
    ///
    /// # Errors
    /// `InvalidInput` listing every fault of the options.
    pub fn new(verifier: Arc<dyn Verifier>, options: &AuthOptions) -> Result<Self> {
        let faults = options.faults();
        if !faults.is_empty() {
            return Err(Error::invalid_input(faults.join("; ")));
        }
        Ok(Self(Arc::new(Auth {
            authenticator: Authenticator::new(verifier, options.timeout, options.failed_logins),
            open_paths: options.open_paths.as_slice().into(),
            client_certificates: options.client_certificates,
        })))
    }
}

impl fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("authenticator", &self.0.authenticator)
            .field("open_paths", &self.0.open_paths)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            auth: Arc::clone(&self.0),
            inner,
        }
    }
}

/// The service of an [`AuthLayer`].
#[allow(unnameable_types)] // named by Layer::Service only
#[derive(Clone)]
pub struct AuthService<S> {
    auth: Arc<Auth>,
    inner: S,
}

impl<S: fmt::Debug> fmt::Debug for AuthService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S> Service<Request<Body>> for AuthService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin,
{
    type Response = Response;
    type Error = Infallible;
    type Future = AuthFuture<S>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> AuthFuture<S> {
        if self.auth.is_open(path_as_it_came(&request)) {
            return AuthFuture::open(self.inner.call(request));
        }
        let given = self.auth.given(request.headers_mut());
        let given = match given {
            Given::Nothing => self.auth.certificate(request.extensions()),
            other => other,
        };
        if matches!(given, Given::Nothing) {
            return AuthFuture::refused(refused().into());
        }
        // Without a server in front, in tests of a router, all are one client.
        let address = client_ip(request.extensions()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let auth = Arc::clone(&self.auth);
        let verified = async move { auth.verify(given, address).await };
        // The one that was ready is used, its clone is kept for the next request.
        let mut inner = self.inner.clone();
        mem::swap(&mut inner, &mut self.inner);
        AuthFuture::verifying(verified, inner, request)
    }
}

/// The whole path, also in a router that is nested in another one, which takes its prefix away.
fn path_as_it_came(request: &Request<Body>) -> &str {
    match request.extensions().get::<OriginalUri>() {
        Some(OriginalUri(uri)) => uri.path(),
        None => request.uri().path(),
    }
}

impl Auth {
    fn is_open(&self, path: &str) -> bool {
        self.open_paths.iter().any(|open| open == path)
    }

    fn given(&self, headers: &mut HeaderMap) -> Given {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let header = match (all.next(), all.next()) {
            (None, _) => return Given::Nothing,
            (Some(header), None) => header,
            // Which of them another reader took is not known.
            (Some(_), Some(_)) => return Given::Bearer(Err(refused())),
        };
        let credential = bearer(header.to_str().ok());
        if credential.is_ok()
            && let Some(header) = headers.get_mut(AUTHORIZATION)
        {
            // So that a handler that logs its headers does not log this one.
            header.set_sensitive(true);
        }
        Given::Bearer(credential)
    }

    fn certificate(&self, extensions: &Extensions) -> Given {
        match extensions.get::<PeerIdentity>() {
            Some(PeerIdentity(caller)) if self.client_certificates => Given::Certificate(Arc::clone(caller)),
            _ => Given::Nothing,
        }
    }

    /// The caller, and the credential if there was one.
    async fn verify(&self, given: Given, address: IpAddr) -> Result<(Arc<AuthContext>, Option<Secret>)> {
        let credential = match given {
            Given::Certificate(caller) => return Ok((caller, None)),
            Given::Bearer(credential) => credential,
            Given::Nothing => return Err(refused()),
        };
        let (caller, credential) = self.authenticator.authenticate(address, credential).await?;
        Ok((Arc::new(caller), Some(credential)))
    }
}
