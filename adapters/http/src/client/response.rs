//! The answer to a call.

use std::fmt;

use bytes::{Bytes, BytesMut};
use cqi_core::{Code, Error, Result};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::error;

/// An answer that was read in full.
#[derive(Clone)]
pub struct ClientResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl ClientResponse {
    /// The status: a 2xx, or 304.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body. Cheap to clone.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// `Permanent`/`Undecodable` when it is not JSON or does not fit `T`; the body is not shown.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::permanent("the answer does not have the expected form")
                .with_code(Code::Undecodable)
                .with_operation("http_client.json")
                .with_context("place", place)
        })
    }
}

impl fmt::Debug for ClientResponse {
    /// Shows neither headers nor body: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientResponse")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Reads an answer of at most `most` bytes.
pub(super) async fn read(mut answer: reqwest::Response, most: usize) -> Result<ClientResponse> {
    let too_large = || {
        Error::permanent(format!("the answer is larger than {most} bytes"))
            .with_code(Code::TooLarge)
            .with_operation("http_client.send")
            .maybe_applied()
    };
    if answer.content_length().is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(error::of_transport)? {
        if chunk.len() > most - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(ClientResponse {
        status: answer.status(),
        headers: std::mem::take(answer.headers_mut()),
        body: body.freeze(),
    })
}
