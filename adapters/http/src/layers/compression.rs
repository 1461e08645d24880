//! Smaller responses.

use http::{HeaderMap, Response, header};
use http_body::Body;
use tower_http::compression::{CompressionLayer, Predicate};

/// Bodies below this many bytes gain nothing.
const WORTH_IT: u64 = 1024;

/// The layer that compresses with gzip what is worth it, for a client that accepts it.
pub(crate) fn layer() -> CompressionLayer<Worthwhile> {
    CompressionLayer::new().gzip(true).compress_when(Worthwhile)
}

/// Bodies of a known length that is large enough, and of a kind that shrinks. So no streams, which must not wait in a
/// buffer.
/// Bodies with a `Content-Encoding` or a `Content-Range` are left alone by the layer itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worthwhile;

impl Predicate for Worthwhile {
    fn should_compress<B: Body>(&self, response: &Response<B>) -> bool {
        response
            .body()
            .size_hint()
            .exact()
            .is_some_and(|length| length >= WORTH_IT)
            && shrinks(response.headers())
    }
}

fn shrinks(headers: &HeaderMap) -> bool {
    let Some(kind) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
    else {
        return false;
    };
    let essence = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let text = essence.starts_with("text/") && essence != "text/event-stream";
    let data = ["json", "xml", "javascript", "yaml"]
        .iter()
        .any(|format| essence.ends_with(format));
    text || data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_worth_it_is_compressed() {
        let worth = |kind: &str, length: usize| {
            let response = Response::builder().header("content-type", kind);
            let body = http_body_util::Full::new(bytes::Bytes::from(vec![b'x'; length]));
            Worthwhile.should_compress(&response.body(body).unwrap())
        };
        for kind in [
            "application/json",
            "text/html; charset=utf-8",
            "application/problem+JSON",
            "image/svg+xml",
        ] {
            assert!(worth(kind, 1024) && !worth(kind, 1023), "{kind}");
        }
        for kind in [
            "text/event-stream",
            "image/png",
            "application/zip",
            "application/grpc",
            "application/octet-stream",
        ] {
            assert!(!worth(kind, 1 << 20), "{kind}");
        }
    }
}
