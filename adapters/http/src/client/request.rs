//! One call.

use std::{fmt, time::Duration};

use bytes::Bytes;
use cqi_core::{Error, Result, policy::Repeat, request::Scope, secret::Secret};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::Url;
use serde::Serialize;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    ClientResponse, HttpClient, error,
    propagate::{bearer, propagate},
    response::read,
};

/// A deadline further away is as good as none.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

const OPERATION: &str = "http_client.send";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that is being put together. What is wrong with it is told by [`ClientRequest::send`].
#[must_use = "nothing is sent before `send`"]
pub struct ClientRequest {
    client: HttpClient,
    method: Method,
    url: Result<Url>,
    headers: HeaderMap,
    body: Bytes,
    repeat: Repeat,
}

impl ClientRequest {
    pub(super) fn new(client: HttpClient, method: Method, path: &str) -> Self {
        let repeat = if method.is_idempotent() {
            Repeat::Safe
        } else {
            Repeat::Unsafe
        };
        Self {
            url: client.url(path),
            client,
            method,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repeat,
        }
    }

    /// Sets a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => {
                self.headers.insert(name, value);
            }
            // The value may be a secret.
            _ => {
                self.url =
                    Err(Error::invalid_input("http client: a header is malformed").with_context("name", name))
            }
        }
        self
    }

    /// Adds a parameter to the query.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        if let Ok(url) = &mut self.url {
            url.query_pairs_mut().append_pair(name, value);
        }
        self
    }

    /// Authenticates with a token or an API key. It is in no log.
    pub fn bearer(mut self, credential: &Secret) -> Self {
        match bearer(credential) {
            Some(value) => {
                self.headers.insert(header::AUTHORIZATION, value);
            }
            None => self.url = Err(Error::invalid_input("http client: the credential is malformed")),
        }
        self
    }

    /// Lets the other side tell repeated attempts from new calls, so that this one may be repeated whatever its method.
    pub fn idempotency_key(self, key: &str) -> Self {
        let mut request = self.header(IDEMPOTENCY_KEY.as_str(), key);
        request.repeat = Repeat::Safe;
        request
    }

    /// Sets the body.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(header::CONTENT_TYPE.as_str(), content_type)
    }

    /// Sets the body to JSON.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body("application/json", body),
            Err(error) => {
                self.url =
                    Err(Error::invalid_input("http client: the body cannot be JSON").with_source(error));
                self
            }
        }
    }

    /// Sends it, under the client's policy and within the deadline of the request that is handled, and reads the answer.
    ///
    /// Cancel safety: dropping the future gives the call up; whether it had an effect is unknown then.
    ///
    /// # Errors
    /// By the status of the answer: 401 and 403 are `Unauthorized`; 404 and 410 `NotFound`; 409, 412 and 501 `Permanent`
    /// with their code; 413 and any other 4xx `InvalidInput`; 429 `Temporary`/`RateLimited`; 408, 502, 503 and 504
    /// `Temporary`, with `retry_after` if it was said; other 5xx and redirects that are not followed `Permanent`.
    /// Without an answer `Temporary`; an answer over the limit is `Permanent`/`TooLarge`; a faulty request
    /// `InvalidInput`.
    pub async fn send(self) -> Result<ClientResponse> {
        let url = self.url.as_ref().map_err(Clone::clone)?;
        let span = tracing::error_span!(
            "http_client",
            method = self.method.as_str(),
            url = shown(url),
            status_code = Empty,
        );
        let called = self.call(url, &span);
        called.instrument(span.clone()).await
    }

    async fn call(&self, url: &Url, span: &Span) -> Result<ClientResponse> {
        let policy = &self.client.0.policy;
        let now = Instant::now();
        let own = now.checked_add(policy.deadline()).unwrap_or(now + LONGEST);
        let callers = Scope::current().deadline();
        let deadline = callers.map_or(own, |callers| callers.min(own));
        policy
            .within(deadline.saturating_duration_since(now))
            .call(OPERATION, self.repeat, || self.attempt(url, deadline, span))
            .await
    }

    async fn attempt(&self, url: &Url, deadline: Instant, span: &Span) -> Result<ClientResponse> {
        let inner = &*self.client.0;
        let mut headers = self.headers.clone();
        propagate(
            &mut headers,
            &**inner.policy.observer(),
            deadline,
            inner.options.propagate_auth,
        );
        let mut request = reqwest::Request::new(self.method.clone(), url.clone());
        *request.headers_mut() = headers;
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        }
        let answer = inner.http.execute(request).await.map_err(error::of_transport)?;
        let status = answer.status();
        span.record("status_code", status.as_u16());
        let response = read(answer, inner.options.max_response_bytes).await;
        if status.is_success() || status == http::StatusCode::NOT_MODIFIED {
            return response;
        }
        // A refusal stays one when its body cannot be read.
        Err(error::of_status(status, response.ok().as_ref()))
    }
}

impl fmt::Debug for ClientRequest {
    /// Shows neither query, headers nor body: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest")
            .field("method", &self.method)
            .field("url", &self.url.as_ref().map(shown))
            .finish_non_exhaustive()
    }
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> &str {
    url.as_str().split('?').next().unwrap_or_default()
}
