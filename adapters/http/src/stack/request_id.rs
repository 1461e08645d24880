//! The id under which a request is found again in logs.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use uuid::Uuid;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a client.
const LONGEST: usize = 128;

/// The id of a request, among the extensions of every request under the standard stack.
///
/// It comes from the client's `x-request-id` when that is 1 to 128 of `A-Z a-z 0-9 . _ -`, else it is made up: unique,
/// but no secret. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Both ways to make one give ASCII.
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Makes ids: 64 random bits per process and a counter, which spares a call of the system's random source per request.
#[derive(Debug)]
pub(super) struct Generator {
    process: u64,
    next: AtomicU64,
}

impl Generator {
    pub(super) fn new() -> Self {
        Self {
            process: Uuid::new_v4().as_u64_pair().0,
            next: AtomicU64::new(1),
        }
    }

    /// The request's id, from its header or new, put into its extensions.
    pub(super) fn accept(&self, request: &mut Request<Body>) -> RequestId {
        let sane = |value: &&HeaderValue| {
            (1..=LONGEST).contains(&value.len())
                && value
                    .as_bytes()
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
        };
        let id = match request.headers().get(REQUEST_ID).filter(sane) {
            Some(value) => RequestId(value.clone()),
            None => self.make(),
        };
        request.extensions_mut().insert(id.clone());
        id
    }

    fn make(&self) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = u128::from(self.process) << 64 | u128::from(self.next.fetch_add(1, Ordering::Relaxed));
        let mut text = [0; 32];
        for (place, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(number >> (124 - 4 * place)) as usize & 15];
        }
        // Hexadecimal digits are a valid header.
        let header = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text));
        RequestId(header.unwrap_or(HeaderValue::from_static("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> RequestId {
        let mut request = Request::builder()
            .header("x-request-id", value)
            .body(Body::empty())
            .unwrap();
        let id = Generator::new().accept(&mut request);
        assert_eq!(request.extensions().get(), Some(&id));
        id
    }

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_replaced() {
        assert_eq!(accepted("Abc.1_2-3").as_str(), "Abc.1_2-3");
        for bad in ["", "a b", "a\"b", "a/b", &"x".repeat(LONGEST + 1)] {
            let id = accepted(bad);
            assert_ne!(id.as_str(), bad);
            assert_eq!(id.as_str().len(), 32);
        }
    }

    #[test]
    fn made_up_ids_differ() {
        let generator = Generator::new();
        let (one, two) = (generator.make(), generator.make());
        assert_ne!(one, two);
        assert_eq!(one.as_str()[..16], two.as_str()[..16]);
        assert!(two.as_str().ends_with("0000000000000002"), "{two:?}");
        assert_ne!(Generator::new().make(), one);
    }
}
