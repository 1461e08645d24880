//! Errors as HTTP responses: one JSON body, `{"error": "message", "code": "NOT_FOUND"}` (ERR-9).

use std::error::Error as StdError;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use cqi_core::{Code, Error, error::find};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// The result of a handler.
pub type Result<T, E = HttpError> = std::result::Result<T, E>;

/// An error on its way to a client. `?` makes one of a [`cqi_core::Error`].
///
/// The client sees the status (ERR-6), the message and the stable code. For status 500 message and code are generic:
/// what happened inside goes to the log only, with all causes (ERR-10).
#[derive(Debug, Clone)]
pub struct HttpError {
    error: Error,
    status: Option<StatusCode>,
}

impl HttpError {
    /// Makes one of any error. A [`cqi_core::Error`] among its causes decides; without one it is an internal error
    /// (OP-11).
    pub fn any(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let error = error.into();
        match find(&*error) {
            Some(found) => found.clone().into(),
            None => Error::permanent("unclassified error").with_source(error).into(),
        }
    }

    /// Answers with `status` instead of the error's own.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| {
            StatusCode::from_u16(self.error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        })
    }

    /// The error behind it.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self { error, status: None }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'a str,
}

impl HttpError {
    /// The response, without a line in the log: for refusals that a client may cause as often as it likes.
    pub(crate) fn response(&self) -> Response {
        let (status, error) = (self.status(), &self.error);
        let mut response = if status == StatusCode::INTERNAL_SERVER_ERROR {
            respond(status, "internal error", cqi_core::Kind::Permanent.name())
        } else {
            respond(status, error.message(), error.wire_code())
        };
        let headers = response.headers_mut();
        if let Some(delay) = error.retry_after() {
            // Whole seconds, rounded up: asking a little late is better than too early.
            let seconds = delay
                .as_secs()
                .saturating_add(u64::from(delay.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let (status, error) = (self.status(), &self.error);
        if status.is_server_error() {
            tracing::error!(error = %error.chain(), status = status.as_u16(), "request failed");
        } else {
            tracing::debug!(error = %error.chain(), status = status.as_u16(), "request refused");
        }
        self.response()
    }
}

/// A response with the one JSON body.
pub(crate) fn respond(status: StatusCode, message: &str, code: &str) -> Response {
    let body = ErrorBody { error: message, code };
    // Two strings always serialize.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The standard body of a status that came without one.
pub(crate) fn of_status(status: StatusCode) -> Response {
    let code = match status.as_u16() {
        401 => "UNAUTHORIZED",
        403 => Code::PermissionDenied.name(),
        404 => "NOT_FOUND",
        409 => Code::Conflict.name(),
        412 => Code::FailedPrecondition.name(),
        413 => Code::TooLarge.name(),
        429 => Code::RateLimited.name(),
        501 => Code::Unsupported.name(),
        503 => "TEMPORARY",
        408 | 504 => Code::Timeout.name(),
        400..=499 => "INVALID_INPUT",
        _ => "PERMANENT",
    };
    let message = match status.as_u16() {
        404 => "no such resource",
        405 => "method not allowed",
        500 => "internal error",
        _ => status.canonical_reason().unwrap_or("error"),
    };
    respond(status, message, code)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug)]
    struct Outer(Error);

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outer")
        }
    }

    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    async fn text(error: impl Into<HttpError>) -> (u16, String, http::HeaderMap) {
        let response = error.into().into_response();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 10_000).await.unwrap();
        (
            parts.status.as_u16(),
            String::from_utf8(body.to_vec()).unwrap(),
            parts.headers,
        )
    }

    #[tokio::test]
    async fn err_6_8_9_status_and_body_of_every_kind() {
        let cases = [
            (
                Error::not_found("asset", 7),
                404,
                r#"{"error":"asset 7 not found","code":"NOT_FOUND"}"#,
            ),
            (
                Error::invalid_input("bad"),
                400,
                r#"{"error":"bad","code":"INVALID_INPUT"}"#,
            ),
            (
                Error::unauthorized("who?"),
                401,
                r#"{"error":"who?","code":"UNAUTHORIZED"}"#,
            ),
            (
                Error::temporary("later"),
                503,
                r#"{"error":"later","code":"TEMPORARY"}"#,
            ),
            (
                Error::permanent("secret"),
                500,
                r#"{"error":"internal error","code":"PERMANENT"}"#,
            ),
            (
                Error::panicked("secret"),
                500,
                r#"{"error":"internal error","code":"PERMANENT"}"#,
            ),
            (
                Error::permanent("there").with_code(Code::AlreadyExists),
                409,
                r#"{"error":"there","code":"ALREADY_EXISTS"}"#,
            ),
        ];
        for (error, status, body) in cases {
            let (seen, text, headers) = text(error).await;
            assert_eq!((seen, text.as_str()), (status, body));
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(headers.contains_key("www-authenticate"), status == 401);
        }
    }

    #[tokio::test]
    async fn err_10_causes_operation_and_context_stay_inside() {
        let error = Error::temporary("try later")
            .with_operation("database.query")
            .with_context("server", "10.0.0.1")
            .with_source(std::io::Error::other("hidden"))
            .with_retry_after(Duration::from_millis(1500));
        let (_, body, headers) = text(error).await;
        assert_eq!(body, r#"{"error":"try later","code":"TEMPORARY"}"#);
        assert_eq!(headers["retry-after"], "2");
        let never = Error::temporary("never").with_retry_after(Duration::MAX);
        assert_eq!(text(never).await.2["retry-after"], u64::MAX.to_string());
    }

    #[tokio::test]
    async fn op_11_what_was_never_classified_is_an_internal_error() {
        assert_eq!(text(HttpError::any(std::io::Error::other("hidden"))).await.0, 500);
        assert_eq!(
            text(HttpError::any(Outer(Error::not_found("asset", 7)))).await.0,
            404
        );
    }
}
