//! Errors as gRPC statuses and back: one table for both directions (ERR-7).

use std::{collections::HashMap, error::Error as StdError};

use cqi_core::{Code, Error, Kind, error::find};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::client::unsent;

/// The domain of the reasons in `ErrorInfo`.
const DOMAIN: &str = "cqi";

/// The key of an error's context that names the field of the request which is wrong.
pub(crate) const FIELD: &str = "field";

/// The longest message that is made of an error, in bytes (G-08).
const MAX_MESSAGE: usize = 1024;

/// The result of what handlers are made of.
pub type Result<T, E = GrpcError> = std::result::Result<T, E>;

/// An error on its way to a client: `?` makes one of a [`cqi_core::Error`], and a [`tonic::Status`] of it, which is
/// logged then (ERR-8).
///
/// ```
/// use tonic::{Request, Response, Status};
///
/// async fn load(id: u64) -> cqi_core::Result<String> {
///     Err(cqi_core::Error::not_found("asset", id))
/// }
///
/// // A handler of tonic, and what it is made of.
/// async fn get_asset(request: Request<u64>) -> Result<Response<String>, Status> {
///     Ok(answer(request.into_inner()).await?)
/// }
///
/// async fn answer(id: u64) -> cqi_grpc::Result<Response<String>> {
///     Ok(Response::new(load(id).await?))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct GrpcError(Error);

impl GrpcError {
    /// Makes one of any error. A [`cqi_core::Error`] among its causes decides; without one it is an internal error
    /// (OP-11).
    pub fn any(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let error = error.into();
        match find(&*error) {
            Some(found) => Self(found.clone()),
            None => Self(Error::permanent("unclassified error").with_source(error)),
        }
    }

    /// The error behind it.
    pub fn error(&self) -> &Error {
        &self.0
    }
}

impl From<Error> for GrpcError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<GrpcError> for Status {
    fn from(GrpcError(error): GrpcError) -> Self {
        let status = to_status(&error);
        let code = crate::wire::name(status.code());
        if error.http_status() >= 500 {
            tracing::error!(error = %error.chain(), status_code = code, "call failed");
        } else {
            tracing::debug!(error = %error.chain(), status_code = code, "call refused");
        }
        status
    }
}

/// The status of an error: its code (ERR-7), its message, and as details an `ErrorInfo` with the stable code as reason,
/// a `RetryInfo` when the error says when to come again, and a `BadRequest` when input is wrong and the error's context
/// names a `field` (see [`required`](crate::required)).
///
/// For INTERNAL, message and reason are generic: what happened inside goes to the log only. So do operation, context and
/// causes of every error (ERR-10). The message is cut to 1 KiB and freed of control characters.
pub fn to_status(error: &Error) -> Status {
    let code = tonic::Code::from_i32(error.grpc_code());
    let (message, reason) = if code == tonic::Code::Internal {
        ("internal error".to_owned(), Kind::Permanent.name())
    } else {
        (shown(error.message()), error.wire_code())
    };
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
    }
    let field = error.context().find(|(key, _)| *key == FIELD);
    if let Some((_, field)) = field.filter(|_| code == tonic::Code::InvalidArgument) {
        details.add_bad_request_violation(shown(field), message.clone());
    }
    Status::with_error_details(code, message, details)
}

/// The error that a call's status tells of. The `ErrorInfo` of a server of this crate gives back kind and code, a
/// `RetryInfo` of any server becomes [`Error::retry_after`].
///
/// Statuses that leave open what has happened are [`Error::may_have_applied`], but for calls that a
/// [`GrpcChannel`](crate::GrpcChannel) could not send.
pub fn from_status(status: Status) -> Error {
    use tonic::Code as C;
    let (kind, code, applied) = match status.code() {
        C::Ok | C::Unknown | C::Internal | C::DataLoss => (Kind::Permanent, None, true),
        C::Cancelled => (Kind::Temporary, Some(Code::Cancelled), true),
        C::DeadlineExceeded => (Kind::Temporary, Some(Code::Timeout), true),
        C::Unavailable => (Kind::Temporary, Some(Code::Unavailable), true),
        C::ResourceExhausted => (Kind::Temporary, Some(Code::Exhausted), false),
        C::Aborted => (Kind::Temporary, Some(Code::Conflict), false),
        C::InvalidArgument => (Kind::InvalidInput, None, false),
        C::OutOfRange => (Kind::InvalidInput, Some(Code::TooLarge), false),
        C::NotFound => (Kind::NotFound, None, false),
        C::AlreadyExists => (Kind::InvalidInput, Some(Code::AlreadyExists), false),
        C::FailedPrecondition => (Kind::Permanent, Some(Code::FailedPrecondition), false),
        C::Unimplemented => (Kind::Permanent, Some(Code::Unsupported), false),
        C::PermissionDenied => (Kind::Unauthorized, Some(Code::PermissionDenied), false),
        C::Unauthenticated => (Kind::Unauthorized, None, false),
    };
    let details = status.get_error_details();
    let told = details.error_info().filter(|info| info.domain == DOMAIN);
    let code = told.map_or(code, |info| reason(&info.reason));
    // Over a limit it stays, however often it is sent.
    let kind = if code == Some(Code::TooLarge) {
        Kind::InvalidInput
    } else {
        kind
    };
    let mut error = Error::new(kind, status.message().to_owned());
    if let Some(code) = code {
        error = error.with_code(code);
    }
    if applied && !unsent(&status) {
        error = error.maybe_applied();
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        error = error.with_retry_after(delay);
    }
    error.with_source(status)
}

/// The code behind a reason; `None` for the name of a kind.
fn reason(name: &str) -> Option<Code> {
    const CODES: [Code; 14] = [
        Code::AlreadyExists,
        Code::Conflict,
        Code::FailedPrecondition,
        Code::PermissionDenied,
        Code::RateLimited,
        Code::Timeout,
        Code::Unavailable,
        Code::Closed,
        Code::Unsupported,
        Code::TooLarge,
        Code::Undecodable,
        Code::Exhausted,
        Code::Cancelled,
        Code::Panicked,
    ];
    CODES.into_iter().find(|code| code.name() == name)
}

/// Text for a client: of bounded length, on one line.
fn shown(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn err_7_8_status_of_every_kind_and_back() {
        use tonic::Code as C;
        let errors = [
            (Error::permanent("x"), C::Internal),
            (Error::temporary("x"), C::Unavailable),
            (Error::not_found("asset", 7), C::NotFound),
            (Error::invalid_input("x"), C::InvalidArgument),
            (Error::unauthorized("x"), C::Unauthenticated),
            (
                Error::unauthorized("x").with_code(Code::PermissionDenied),
                C::PermissionDenied,
            ),
            (
                Error::invalid_input("x").with_code(Code::AlreadyExists),
                C::AlreadyExists,
            ),
            (Error::temporary("x").with_code(Code::Conflict), C::Aborted),
            (
                Error::permanent("x").with_code(Code::FailedPrecondition),
                C::FailedPrecondition,
            ),
            (
                Error::temporary("x").with_code(Code::RateLimited),
                C::ResourceExhausted,
            ),
            (
                Error::invalid_input("x").with_code(Code::TooLarge),
                C::ResourceExhausted,
            ),
            (Error::timeout(Duration::from_secs(1)), C::DeadlineExceeded),
            (Error::unsupported("x"), C::Unimplemented),
            (Error::temporary("x").with_code(Code::Cancelled), C::Cancelled),
        ];
        for (error, code) in errors {
            let status = to_status(&error);
            assert_eq!(status.code(), code, "{error:?}");
            let back = from_status(status);
            assert_eq!(
                (back.kind(), back.code()),
                (error.kind(), error.code()),
                "{error:?}"
            );
            if code != C::Internal {
                assert_eq!(back.message(), error.message());
            }
        }
    }

    #[test]
    fn err_10_what_happened_inside_stays_there() {
        let error = Error::permanent("canary")
            .with_operation("canary")
            .with_context("canary", "canary")
            .with_source(std::io::Error::other("canary"));
        for error in [error.clone(), Error::temporary("try later").with_source(error)] {
            let status = to_status(&error);
            let sent = format!(
                "{} {}",
                status.message(),
                String::from_utf8_lossy(status.details())
            );
            assert!(!sent.contains("canary"), "{sent}");
        }
        assert_eq!(to_status(&Error::panicked("canary")).message(), "internal error");
    }

    #[test]
    fn details_tell_the_reason_the_pause_and_the_field() {
        let error = Error::invalid_input("must be above zero")
            .with_context(FIELD, "quantity")
            .with_retry_after(Duration::from_millis(1500));
        let status = to_status(&error);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_INPUT");
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("quantity", "must be above zero")
        );
        assert_eq!(
            from_status(status).retry_after(),
            Some(Duration::from_millis(1500))
        );
    }

    #[test]
    fn g_08_messages_are_short_and_on_one_line() {
        let status = to_status(&Error::invalid_input(format!("a\r\nb\0{}", "é".repeat(10_000))));
        assert!(status.message().starts_with("a  b é") && status.message().len() <= MAX_MESSAGE);
        let long_field = Error::invalid_input("x").with_context(FIELD, "f".repeat(10_000));
        assert!(to_status(&long_field).details().len() < 2 * MAX_MESSAGE);
    }

    #[test]
    fn op_11_a_foreign_error_is_internal_and_a_hidden_cqi_error_decides() {
        let hidden = std::io::Error::other(Error::not_found("asset", 7));
        assert_eq!(Status::from(GrpcError::any(hidden)).code(), tonic::Code::NotFound);
        let foreign = GrpcError::any(std::io::Error::other("x"));
        assert_eq!(Status::from(foreign).code(), tonic::Code::Internal);
    }
}
