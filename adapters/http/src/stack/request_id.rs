//! The id of a request as a header.

use cqi_core::request::{RequestId, RequestIds};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id, from its header or new, and the header of the answer: that which came in costs nothing.
pub(super) fn accept(ids: &RequestIds, headers: &HeaderMap) -> (RequestId, HeaderValue) {
    let given = headers.get(REQUEST_ID).and_then(|header| {
        let id = RequestId::parse(header.to_str().ok()?)?;
        Some((id, header.clone()))
    });
    given.unwrap_or_else(|| {
        let id = ids.make();
        let header = header(&id);
        (id, header)
    })
}

pub(crate) fn header(id: &RequestId) -> HeaderValue {
    // What an id is made of is valid.
    HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_replaced() {
        let accepted = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            accept(&RequestIds::new(), &HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        let (id, header) = accepted(b"Abc.1_2-3");
        assert_eq!(
            (id.as_str(), &header),
            ("Abc.1_2-3", &HeaderValue::from_static("Abc.1_2-3"))
        );
        for bad in [&b""[..], b"a b", "\u{e9}".as_bytes(), &[b'x'; 129]] {
            let (id, header) = accepted(bad);
            assert_eq!((id.as_str().len(), id.as_str()), (32, header.to_str().unwrap()));
        }
    }
}
