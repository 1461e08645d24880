//! The one place that says what a failed call means.

use std::{error::Error as StdError, io, time::Duration};

use cqi_core::{Code, Error, Kind};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::ClientResponse;

/// The longest part of the other side's explanation that is kept for the log, in characters.
const LONGEST: usize = 200;

/// The longest pause that is believed.
const LONGEST_PAUSE: u64 = 24 * 60 * 60;

/// No answer, or only a part of it.
pub(super) fn of_transport(error: reqwest::Error) -> Error {
    let untrusted = is_untrusted(&error);
    let (connect, redirect) = (error.is_connect(), error.is_redirect() || error.is_builder());
    // Its URL may have secrets in the query.
    let made = |kind, message: &'static str| {
        Error::from_source(kind, message, error.without_url()).with_operation("http_client.send")
    };
    if untrusted {
        return made(Kind::Permanent, "the other service's certificate is not trusted")
            .with_code(Code::Unavailable);
    }
    if connect {
        return made(Kind::Temporary, "the other service cannot be reached").with_code(Code::Unavailable);
    }
    if redirect {
        return made(Kind::Permanent, "the call cannot be made");
    }
    made(
        Kind::Temporary,
        "the connection broke before the answer was there",
    )
    .with_code(Code::Unavailable)
    .maybe_applied()
}

/// Whether the handshake failed for the server's certificate: that is the same the next time.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = current.downcast_ref() {
            return true;
        }
        // An io::Error passes over what it was made of when asked for its source.
        let inside = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => current.source(),
        };
    }
    false
}

/// What cqi services answer.
#[derive(Deserialize)]
struct Explanation {
    error: String,
    #[serde(default)]
    code: String,
}

/// An answer that says no. What the other side explains is for the log only.
pub(super) fn of_status(status: StatusCode, response: Option<&ClientResponse>) -> Error {
    let explanation =
        response.and_then(|response| serde_json::from_slice::<Explanation>(response.body()).ok());
    let exists = explanation
        .as_ref()
        .is_some_and(|said| said.code == Code::AlreadyExists.name());
    let (kind, code) = match status.as_u16() {
        401 => (Kind::Unauthorized, None),
        403 => (Kind::Unauthorized, Some(Code::PermissionDenied)),
        404 | 410 => (Kind::NotFound, None),
        408 | 504 => (Kind::Temporary, Some(Code::Timeout)),
        409 if exists => (Kind::Permanent, Some(Code::AlreadyExists)),
        409 => (Kind::Permanent, Some(Code::Conflict)),
        412 => (Kind::Permanent, Some(Code::FailedPrecondition)),
        413 => (Kind::InvalidInput, Some(Code::TooLarge)),
        429 => (Kind::Temporary, Some(Code::RateLimited)),
        501 => (Kind::Permanent, Some(Code::Unsupported)),
        502 | 503 => (Kind::Temporary, Some(Code::Unavailable)),
        400..=499 => (Kind::InvalidInput, None),
        _ => (Kind::Permanent, None),
    };
    let mut error = Error::new(kind, format!("the other service answered {}", status.as_u16()))
        .with_operation("http_client.send");
    if let Some(code) = code {
        error = error.with_code(code);
    }
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        error = error.maybe_applied();
    }
    if let Some(delay) = response.and_then(|response| retry_after(response.headers())) {
        error = error.with_retry_after(delay);
    }
    match explanation {
        Some(said) => error.with_source(said.error.chars().take(LONGEST).collect::<String>()),
        None => error,
    }
}

/// Seconds; the form with a date is left aside.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_PAUSE)))
}
