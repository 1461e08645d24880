//! The layer that asks the verifier.

use std::{
    convert::Infallible,
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::OriginalUri, response::Response};
use cqi_core::{
    Code, Error, Kind, Result,
    auth::{AuthContext, Verifier, bearer, refused, with_auth_context},
    secret::Secret,
};
use http::{Extensions, HeaderMap, HeaderValue, Request, header::AUTHORIZATION};
use tokio::time::timeout;
use tower::{Layer, Service};

use super::{AuthOptions, future::AuthFuture};
use crate::{HttpError, current::with_credential, layers::Limiter};

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
    verifier: Arc<dyn Verifier>,
    open_paths: Box<[String]>,
    client_certificates: bool,
    timeout: Duration,
    failed_logins: Option<Limiter>,
}

/// What a request brings along.
pub(super) enum Given {
    /// The credential, and the header it came in.
    Bearer(Secret, HeaderValue),
    Certificate(Arc<AuthContext>),
    /// Something in place of a credential.
    Malformed,
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
            verifier,
            open_paths: options.open_paths.as_slice().into(),
            client_certificates: options.client_certificates,
            timeout: options.timeout,
            failed_logins: options.failed_logins.map(Limiter::new).transpose()?,
        })))
    }
}

impl fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("verifier", &self.0.verifier)
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
    type Future = AuthFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
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
        let auth = Arc::clone(&self.auth);
        // The one that was ready is used, its clone is kept for the next request.
        let mut inner = self.inner.clone();
        mem::swap(&mut inner, &mut self.inner);
        AuthFuture::verifying(async move {
            let (caller, header) = match auth.verify(given).await {
                Ok(verified) => verified,
                Err(error) => return Err(auth.refuse(&error, request.extensions())),
            };
            request.extensions_mut().insert(Arc::clone(&caller));
            let handled = async move { inner.call(request).await };
            let handled = with_auth_context(caller, handled);
            let response = match header {
                Some(header) => with_credential(header, handled).await,
                None => handled.await,
            };
            Ok(response.unwrap_or_else(|never| match never {}))
        })
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
            (Some(header), None) => header.clone(),
            // Which of them another reader took is not known.
            (Some(_), Some(_)) => return Given::Malformed,
        };
        match bearer(header.to_str().ok()) {
            Ok(credential) => {
                let mut header = header;
                header.set_sensitive(true);
                // So that a handler that logs its headers does not log this one.
                headers.insert(AUTHORIZATION, header.clone());
                Given::Bearer(credential, header)
            }
            Err(_) => Given::Malformed,
        }
    }

    fn certificate(&self, extensions: &Extensions) -> Given {
        match extensions.get::<PeerIdentity>() {
            Some(PeerIdentity(caller)) if self.client_certificates => Given::Certificate(Arc::clone(caller)),
            _ => Given::Nothing,
        }
    }

    async fn verify(&self, given: Given) -> Result<(Arc<AuthContext>, Option<HeaderValue>)> {
        let (credential, header) = match given {
            Given::Certificate(caller) => return Ok((caller, None)),
            Given::Bearer(credential, header) => (credential, header),
            Given::Malformed | Given::Nothing => return Err(refused()),
        };
        let verified = timeout(self.timeout, self.verifier.verify(&credential)).await;
        let caller =
            verified.unwrap_or_else(|_| Err(Error::timeout(self.timeout).with_operation("auth.verify")))?;
        Ok((Arc::new(caller), Some(header)))
    }

    /// What the client is told: one of three fixed answers, and how often it may try.
    fn refuse(&self, error: &Error, extensions: &Extensions) -> HttpError {
        match error.kind() {
            Kind::Temporary => {
                let delay = error.retry_after().unwrap_or(Duration::from_secs(1));
                Error::temporary("the caller cannot be verified now")
                    .with_source(error.clone())
                    .with_retry_after(delay)
                    .into()
            }
            Kind::Permanent => error.clone().into(),
            _ if error.code() == Some(Code::PermissionDenied) => {
                Error::unauthorized("the caller may not do this")
                    .with_code(Code::PermissionDenied)
                    .into()
            }
            _ => {
                tracing::debug!(error = %error.chain(), "credential refused");
                let limited = self
                    .failed_logins
                    .as_ref()
                    .and_then(|limiter| limiter.take(extensions).err());
                limited.unwrap_or_else(refused).into()
            }
        }
    }
}
