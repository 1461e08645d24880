//! One effect for all requests with the same key.

mod record;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _, to_bytes},
    extract::MatchedPath,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use cqi_core::{
    Code, Error, Result,
    auth::{AuthContext, refused},
    cache::{Cache, Condition, SetOptions},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, request::Parts};
use tower::{Layer, Service};

use self::record::{Record, State, digest};
use crate::HttpError;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in bytes.
const MAX_KEY: usize = 255;
/// When to ask for the answer of a request under way.
const SOON: Duration = Duration::from_secs(1);

/// What an [`Idempotency`] keeps, and for how long.
#[allow(clippy::exhaustive_structs)] // options
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyOptions {
    /// How long an answer is given again. Default 24 h.
    pub keep: Duration,
    /// How long a request may be under way; must be longer than the server's `request_timeout`. When a process dies in
    /// between, the key is free after this. Default 60 s.
    pub running: Duration,
    /// The largest body of a request, in bytes; it is held in memory. Default 1 MiB.
    pub max_request_bytes: usize,
    /// The largest body of an answer that is kept, in bytes. Default 256 KiB.
    pub max_answer_bytes: usize,
    /// Whether a request without a key is refused. Default false: it is handled as without this layer.
    pub required: bool,
}

impl Default for IdempotencyOptions {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(24 * 60 * 60),
            running: Duration::from_secs(60),
            max_request_bytes: 1 << 20,
            max_answer_bytes: 256 << 10,
            required: false,
        }
    }
}

/// A [`tower::Layer`] for single routes: requests of one caller with the same `Idempotency-Key` have their effect once, as
/// far as the cache remembers, and all get the answer of the first (H-24). Methods that are safe (`GET`) are let through.
/// It stands inside of authentication, next to the handler: [`axum::routing::MethodRouter::layer`].
///
/// | a request whose key | is answered |
/// | --- | --- |
/// | is new | by the handler |
/// | was answered | with status, content type, location and body as before, and `Idempotency-Replayed: true` |
/// | came with another path, query, content type or body | 422 |
/// | is under way | 409 with `Retry-After` |
/// | was answered with more than is kept | 409 |
/// | is not 1 to 255 printable ASCII characters, or comes twice | 400 |
///
/// A key is one of its caller, method and route. Answers of 500 and above, 408, 425 and 429 are not kept: the key is free
/// again. While the cache does not answer, a request with a key is 503 and has no effect.
///
/// It is not "exactly once": `docs/http.md` says what it promises when a process or the cache dies.
///
/// ```
/// # use std::sync::Arc;
/// use axum::{Router, routing::post};
/// use cqi_core::cache::Cache;
/// use cqi_http::{Idempotency, IdempotencyOptions};
///
/// # fn routes(cache: Arc<dyn Cache>) -> cqi_core::Result<Router> {
/// let once = Idempotency::new(cache, IdempotencyOptions::default())?;
/// Ok(Router::new().route("/payments", post(|| async { "paid" }).layer(once)))
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Idempotency(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cache: Arc<dyn Cache>,
    options: IdempotencyOptions,
}

impl Idempotency {
    /// Keeps answers in `cache`: with one that all instances share, the key holds for all of them.
    ///
    /// # Errors
    /// `InvalidInput` for a time or a size that is zero, and an answer larger than the cache takes.
    pub fn new(cache: Arc<dyn Cache>, options: IdempotencyOptions) -> Result<Self> {
        let wrong = |rule| Err(Error::invalid_input(rule).with_operation("http.idempotency"));
        if options.keep.is_zero() || options.running.is_zero() || options.max_request_bytes == 0 {
            return wrong("keep, running and max_request_bytes must be above zero");
        }
        if options.max_answer_bytes.saturating_add(record::MAX_HEAD) > cache.capabilities().max_value {
            return wrong("max_answer_bytes must be less than the cache takes");
        }
        Ok(Self(Arc::new(Shared { cache, options })))
    }
}

impl<S> Layer<S> for Idempotency {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> IdempotencyService<S> {
        IdempotencyService {
            shared: Arc::clone(&self.0),
            inner,
        }
    }
}

/// The service of an [`Idempotency`].
#[allow(unnameable_types)] // named by Layer::Service only
#[derive(Clone)]
pub struct IdempotencyService<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S: fmt::Debug> fmt::Debug for IdempotencyService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S> Service<Request<Body>> for IdempotencyService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was ready is used, its clone is kept for the next request.
        let mut inner = self.inner.clone();
        mem::swap(&mut inner, &mut self.inner);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let handle =
                async move |request| inner.call(request).await.unwrap_or_else(|never| match never {});
            let answer = shared.once(request, handle).await;
            Ok(answer.unwrap_or_else(|error| error.into_response()))
        })
    }
}

impl Shared {
    async fn once(
        &self,
        request: Request<Body>,
        handle: impl AsyncFnOnce(Request<Body>) -> Response,
    ) -> Result<Response, HttpError> {
        if request.method().is_safe() {
            return Ok(handle(request).await);
        }
        let Some(key) = key(request.headers())? else {
            if self.options.required {
                return Err(Error::invalid_input("an Idempotency-Key header is needed").into());
            }
            return Ok(handle(request).await);
        };
        let id = id(&request, &key)?;
        let (parts, body) = request.into_parts();
        let body = self.read(body).await?;
        let fingerprint = fingerprint(&parts, &body);
        let running = Record::new(&fingerprint, State::Running);
        let first = SetOptions::ttl(self.options.running).when(Condition::IfAbsent);
        if self.cache.set(&id, running.encode(&[]), first).await? {
            let answer = handle(Request::from_parts(parts, Body::from(body))).await;
            return Ok(self.keep(&id, &fingerprint, answer).await);
        }
        let Some(stored) = self.cache.get(&id).await? else {
            // It has ended meanwhile, without an answer to keep.
            return Err(under_way());
        };
        let (record, body) = Record::decode(&stored)?;
        if record.fingerprint != fingerprint {
            let error = Error::invalid_input("the Idempotency-Key was used for another request");
            return Err(HttpError::from(error).with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
        match record.state {
            State::Running => Err(under_way()),
            State::TooLarge => {
                let error =
                    Error::permanent("the request was handled before, and its answer is too large to keep");
                Err(HttpError::from(error.with_code(Code::Conflict)).with_status(StatusCode::CONFLICT))
            }
            State::Answered(head) => {
                let mut answer = head.response(body)?;
                let headers = answer.headers_mut();
                headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
                Ok(answer)
            }
        }
    }

    async fn read(&self, body: Body) -> Result<Bytes, HttpError> {
        let too_large = || Error::invalid_input("body is too large").with_code(Code::TooLarge);
        let most = self.options.max_request_bytes;
        if body.size_hint().lower() > most as u64 {
            return Err(too_large().into());
        }
        // A body that ends early has nobody who waits for an answer; the server's own limits answer for themselves.
        to_bytes(body, most).await.map_err(|_| too_large().into())
    }

    /// Keeps an answer, or frees the key, before the caller hears of it. What the handler has done is not undone when that
    /// fails: the caller gets the answer in any case.
    async fn keep(&self, id: &str, fingerprint: &str, answer: Response) -> Response {
        let (stored, answer) = if is_passing(answer.status()) {
            (self.cache.delete(id).await.map(drop), answer)
        } else {
            let (parts, body) = answer.into_parts();
            let size = body.size_hint().exact();
            let (state, body, kept) = match size.and_then(|size| usize::try_from(size).ok()) {
                Some(size) if size <= self.options.max_answer_bytes => match to_bytes(body, size).await {
                    Ok(body) => (State::answered(&parts), Body::from(body.clone()), body),
                    // It says its length and breaks off: the caller hears the same as without this layer.
                    Err(error) => (State::TooLarge, failing(error), Bytes::new()),
                },
                _ => (State::TooLarge, body, Bytes::new()),
            };
            let record = Record::new(fingerprint, state).encode(&kept);
            let set = self
                .cache
                .set(id, record, SetOptions::ttl(self.options.keep))
                .await;
            (set.map(drop), Response::from_parts(parts, body))
        };
        if let Err(error) = stored {
            tracing::error!(error = %error.chain(), "the answer for an idempotency key could not be kept");
        }
        answer
    }
}

/// Whether the answer says nothing lasting about the request.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

fn failing(error: axum::Error) -> Body {
    Body::from_stream(futures::stream::once(async move { Err::<Bytes, _>(error) }))
}

fn under_way() -> HttpError {
    let error = Error::temporary("a request with this Idempotency-Key is under way")
        .with_code(Code::Conflict)
        .with_retry_after(SOON);
    HttpError::from(error).with_status(StatusCode::CONFLICT)
}

/// The key of a request that has one.
fn key(headers: &HeaderMap) -> Result<Option<Vec<u8>>, HttpError> {
    let mut all = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (all.next().map(HeaderValue::as_bytes), all.next()) {
        (None, _) => Ok(None),
        (Some(key), None)
            if (1..=MAX_KEY).contains(&key.len()) && key.iter().all(|b| (b' '..=b'~').contains(b)) =>
        {
            Ok(Some(key.to_vec()))
        }
        _ => {
            Err(Error::invalid_input("an Idempotency-Key must be 1 to 255 printable ASCII characters").into())
        }
    }
}

/// Where a key's record is: of its caller, method and route only. A digest, so that no part can pass for another.
fn id(request: &Request<Body>, key: &[u8]) -> Result<String, HttpError> {
    let extensions = request.extensions();
    let caller = extensions.get::<Arc<AuthContext>>().ok_or_else(refused)?;
    let route = extensions.get::<MatchedPath>();
    let route = route.map_or(request.uri().path(), MatchedPath::as_str);
    // Somebody's absent name is not an empty one.
    let name = |name: &Option<String>| {
        name.as_ref()
            .map_or(Vec::new(), |name| [b"=", name.as_bytes()].concat())
    };
    let digest = digest(&[
        caller.auth_type.name().as_bytes(),
        &name(&caller.issuer),
        &name(&caller.user_id),
        &name(&caller.service_id),
        request.method().as_str().as_bytes(),
        route.as_bytes(),
        key,
    ]);
    Ok(format!("idempotency:{digest}"))
}

/// What has to be the same about requests with the same key.
fn fingerprint(parts: &Parts, body: &[u8]) -> String {
    let content_type = parts.headers.get(http::header::CONTENT_TYPE);
    digest(&[
        parts.uri.path().as_bytes(),
        parts.uri.query().unwrap_or_default().as_bytes(),
        content_type.map_or(&[], HeaderValue::as_bytes),
        body,
    ])
}
