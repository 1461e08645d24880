//! The name a request is sent to.

use axum::body::Body;
use cqi_core::Error;
use http::{Request, Version, header::HOST};

use crate::HttpError;

/// Refuses an HTTP/1.1 request without exactly one well-formed `Host` (H-14). HTTP/2 has its `:authority`, which hyper
/// checks.
pub(super) fn check(request: &Request<Body>) -> Result<(), HttpError> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let fine = match (hosts.next(), hosts.next()) {
        (Some(host), None) => well_formed(host.as_bytes()),
        (None, None) => request.version() != Version::HTTP_11,
        _ => false,
    };
    if fine {
        return Ok(());
    }
    Err(Error::invalid_input("exactly one well-formed Host header is needed").into())
}

/// A name, an IPv4 or a bracketed IPv6 address, with or without a port. Empty is allowed, as in RFC 9112 section 3.2.
fn well_formed(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|b| *b == b']') else {
                return false;
            };
            let (address, port) = rest.split_at(end);
            if !address.iter().all(|b| b.is_ascii_hexdigit() || b":.".contains(b)) {
                return false;
            }
            (&[][..], &port[1..])
        }
        _ => host.split_at(host.iter().position(|b| *b == b':').unwrap_or(host.len())),
    };
    let name_ok = name.len() <= 255
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(b));
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits
                    .iter()
                    .fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0'))
                    <= 65535
        }
        _ => false,
    };
    name_ok && port_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_14_hosts() {
        for good in [
            "",
            "a",
            "example.com",
            "example.com:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:80",
            "a_b:",
        ] {
            assert!(well_formed(good.as_bytes()), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "a@b", "a:99999", "a:b", "a:1:2", "[::1", "[::1]x", "[x]", "a b", "a/b", "a,b", "é", &long,
        ] {
            assert!(!well_formed(bad.as_bytes()), "{bad}");
        }
    }
}
