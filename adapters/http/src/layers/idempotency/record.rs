//! What is kept of a request with a key.

use std::fmt::Write as _;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use cqi_core::{Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response::Parts};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The most bytes before the body of a record.
pub(super) const MAX_HEAD: usize = 4096;
/// The longest value of a header that is kept, in bytes.
const MAX_VALUE: usize = 1024;

/// One line of JSON, and the body of the answer after it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of the request.
    pub(super) fingerprint: String,
    pub(super) state: State,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum State {
    Running,
    /// It was handled, and the answer was not kept.
    TooLarge,
    Answered(Head),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    status: u16,
    content_type: Option<String>,
    location: Option<String>,
}

impl State {
    pub(super) fn answered(parts: &Parts) -> Self {
        let value = |name| text(&parts.headers, name);
        Self::Answered(Head {
            status: parts.status.as_u16(),
            content_type: value(header::CONTENT_TYPE),
            location: value(header::LOCATION),
        })
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= MAX_VALUE).then(|| value.to_owned())
}

impl Head {
    /// # Errors
    /// `Permanent` when this was no answer.
    pub(super) fn response(self, body: Bytes) -> Result<Response> {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(|_| malformed())?;
        let headers = [
            (header::CONTENT_TYPE, self.content_type),
            (header::LOCATION, self.location),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                let value = HeaderValue::try_from(value).map_err(|_| malformed())?;
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }
}

impl Record {
    pub(super) fn new(fingerprint: &str, state: State) -> Self {
        Self {
            fingerprint: fingerprint.to_owned(),
            state,
        }
    }

    pub(super) fn encode(&self, body: &[u8]) -> Bytes {
        // Texts and numbers always serialize, and without a line's end.
        let mut record = serde_json::to_vec(self).unwrap_or_default();
        record.push(b'\n');
        record.extend_from_slice(body);
        record.into()
    }

    /// # Errors
    /// `Permanent` for what is no record.
    pub(super) fn decode(stored: &Bytes) -> Result<(Self, Bytes)> {
        let end = stored.iter().position(|b| *b == b'\n').ok_or_else(malformed)?;
        let record = serde_json::from_slice(&stored[..end]).map_err(|_| malformed())?;
        Ok((record, stored.slice(end + 1..)))
    }
}

fn malformed() -> Error {
    Error::permanent("what is kept for an idempotency key is malformed")
}

/// A digest of all parts, each with its length, in hexadecimal.
pub(super) fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_24_a_record_is_read_as_it_was_written() {
        let head = Head {
            status: 201,
            content_type: Some("text/plain".to_owned()),
            location: None,
        };
        for state in [State::Running, State::TooLarge, State::Answered(head)] {
            let record = Record::new("a", state);
            let (read, body) = Record::decode(&record.encode(b"{\n}")).unwrap();
            assert_eq!((read, &body[..]), (record, &b"{\n}"[..]));
        }
        for bad in [
            &b""[..],
            b"\n",
            b"{}\n",
            b"{\"fingerprint\":\"a\",\"state\":\"Running\"}",
        ] {
            assert!(
                Record::decode(&Bytes::from_static(bad))
                    .unwrap_err()
                    .is_permanent()
            );
        }
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
