//! Where the client's faults become errors of cqi. Messages name the server and what can be done, never a secret.

use async_nats::{
    ConnectError, ConnectErrorKind, PublishError, PublishErrorKind, RequestError, RequestErrorKind,
    jetstream::{self, ErrorCode},
};
use cqi_core::{Code, Error, Kind};

/// Connecting failed.
pub(crate) fn connect(error: &ConnectError) -> Error {
    let because = cause(error);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            Error::unauthorized("the NATS server refuses the credentials: check user and password")
        }
        ConnectErrorKind::Tls => tls(&because),
        ConnectErrorKind::Io if is_tls(error) => tls(&because),
        ConnectErrorKind::ServerParse => Error::invalid_input("bad NATS server address"),
        ConnectErrorKind::Dns => {
            Error::temporary("the NATS server's host name cannot be resolved").with_code(Code::Unavailable)
        }
        ConnectErrorKind::TimedOut => {
            Error::temporary("no NATS server answers there in time: check host and port")
                .with_code(Code::Unavailable)
        }
        ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => Error::temporary(format!(
            "the NATS server cannot be reached: check that it runs, host and port{because}"
        ))
        .with_code(Code::Unavailable),
    }
}

fn tls(because: &str) -> Error {
    Error::permanent(format!(
        "TLS with the NATS server failed: check tls:// or nats:// and the certificates{because}"
    ))
    .with_code(Code::FailedPrecondition)
}

/// Whether the TLS layer found fault with what it read, or with a certificate.
fn is_tls(error: &dyn std::error::Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData) {
            return true;
        }
        next = error.source();
    }
    false
}

fn cause(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!(": {error}");
        next = error.source();
    }
    text
}

/// There is no connection; nothing was sent.
pub(crate) fn down() -> Error {
    Error::temporary("the NATS server cannot be reached; the connection is being opened anew")
        .with_code(Code::Unavailable)
}

/// The connection was lost between sending and the answer.
pub(crate) fn lost() -> Error {
    Error::temporary("the connection to the NATS server was lost before the answer")
        .with_code(Code::Unavailable)
        .maybe_applied()
}

/// The server refused a subject to this user.
pub(crate) fn denied(subject: &str) -> Error {
    Error::unauthorized("the NATS user may not use this subject: grant it, or use another user")
        .with_code(Code::PermissionDenied)
        .with_context("subject", subject)
}

/// Nobody listens on the subject. Nothing was stored.
pub(crate) fn nobody() -> Error {
    Error::temporary("no stream takes this subject, or JetStream has no leader").with_code(Code::Unavailable)
}

/// Sending a request failed.
pub(crate) fn request(error: &RequestError) -> Error {
    match error.kind() {
        RequestErrorKind::NoResponders => nobody(),
        RequestErrorKind::MaxPayloadExceeded => too_large(error),
        RequestErrorKind::InvalidSubject => bad_subject(),
        RequestErrorKind::TimedOut | RequestErrorKind::Other => lost(),
    }
}

/// Sending a message failed.
pub(crate) fn publish(error: &PublishError) -> Error {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => too_large(error),
        PublishErrorKind::InvalidSubject => bad_subject(),
        PublishErrorKind::Send => lost(),
    }
}

fn too_large(error: &dyn std::error::Error) -> Error {
    Error::invalid_input(format!("event with its headers is too large{}", cause(error)))
        .with_code(Code::TooLarge)
}

fn bad_subject() -> Error {
    Error::invalid_input("subject breaks NATS' rules")
}

/// JetStream answered with an error. Nothing was stored, unless it says that it may have been.
pub(crate) fn jetstream(error: &jetstream::Error) -> Error {
    let text = |what: &str| {
        format!(
            "{what}: {} (JetStream {})",
            description(error),
            error.error_code().0
        )
    };
    match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND => {
            Error::new(Kind::NotFound, text("not there"))
        }
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => no_jetstream(),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            Error::invalid_input(text("the stream takes no message of this size")).with_code(Code::TooLarge)
        }
        ErrorCode::STREAM_SUBJECT_OVERLAP | ErrorCode::STREAM_SEALED => {
            Error::permanent(text("the stream cannot be used")).with_code(Code::FailedPrecondition)
        }
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_STORE_FAILED => Error::temporary(text(
            "the stream has no room: check its limits and the server's disk",
        ))
        .with_code(Code::Exhausted),
        // Another copy of the event came before this one, and the stream is about to store it.
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => {
            Error::temporary(text("the stream has not yet stored this event"))
                .with_code(Code::Unavailable)
                .maybe_applied()
        }
        _ if error.code() == 429 => {
            Error::temporary(text("the stream takes no more for now")).with_code(Code::RateLimited)
        }
        _ if matches!(error.code(), 400..500) => {
            Error::permanent(text("JetStream refuses")).with_code(Code::FailedPrecondition)
        }
        _ => Error::temporary(text("JetStream cannot do it now")).with_code(Code::Unavailable),
    }
}

/// The server has no JetStream.
pub(crate) fn no_jetstream() -> Error {
    Error::permanent("JetStream is not enabled on this NATS server or account: start the server with -js")
        .with_code(Code::FailedPrecondition)
}

/// What the server says about it, on one short line.
fn description(error: &jetstream::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(200));
    text
}

/// The ack deadline of a delivery has passed.
pub(crate) fn late() -> Error {
    Error::permanent("the ack deadline has passed, or the delivery is settled: it is no longer ours")
        .with_code(Code::FailedPrecondition)
}

/// A request for events that was to be confirmed every two seconds was not.
pub(crate) fn silent() -> Error {
    Error::temporary(
        "the NATS server says nothing of the events that were asked for; they are asked for again",
    )
    .with_code(Code::Unavailable)
}

/// The group's consumer, or the stream, was deleted on the server.
pub(crate) fn gone(what: &str) -> Error {
    Error::temporary(format!("{what} on the NATS server; it is created anew")).with_code(Code::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ML-MSG-8: passing or lasting.
    #[test]
    fn each_answer_of_jetstream_has_its_kind_and_code() {
        for (status, number, kind, code, applied) in [
            (404, 10059, Kind::NotFound, None, false),
            (400, 10054, Kind::InvalidInput, Some(Code::TooLarge), false),
            (503, 10077, Kind::Temporary, Some(Code::Exhausted), false),
            (503, 10008, Kind::Temporary, Some(Code::Unavailable), false),
            (409, 10158, Kind::Temporary, Some(Code::Unavailable), true),
            (429, 10167, Kind::Temporary, Some(Code::RateLimited), false),
            (400, 10071, Kind::Permanent, Some(Code::FailedPrecondition), false),
        ] {
            let answer = format!(r#"{{"code":{status},"err_code":{number},"description":"why"}}"#);
            let error = jetstream(&serde_json::from_str(&answer).unwrap());
            assert_eq!((error.kind(), error.code()), (kind, code), "{number}");
            assert_eq!(error.may_have_applied(), applied, "{number}");
        }
    }
}
