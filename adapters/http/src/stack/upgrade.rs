//! Requests to go on in another protocol on the same connection (RFC 9110 section 7.8).

use axum::body::Body;
use cqi_core::{Code, Error, Result};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version,
    header::{CONNECTION, UPGRADE},
};

use crate::HttpError;

/// What clients ask for in passing and go on without: `h2c` is asked for by Java's HTTP client with every first request,
/// `TLS/1.2` by Apache's. To refuse them is to refuse those clients.
const IN_PASSING: [&str; 4] = ["h2c", "h2", "http", "tls"];

/// The protocols that routes can go on in.
#[derive(Debug)]
pub(crate) struct Upgrades {
    offered: Box<[String]>,
    /// What a refusal has to name (RFC 9110 section 15.5.22).
    named: HeaderValue,
}

impl Upgrades {
    /// # Errors
    /// `InvalidInput` when one of them is no protocol's name.
    pub(crate) fn new(offered: &[String]) -> Result<Self> {
        let named = if offered.is_empty() {
            "HTTP/1.1".to_owned()
        } else {
            offered.join(", ")
        };
        let named = HeaderValue::try_from(named).ok().filter(|_| {
            let names = |offered: &String| HeaderName::try_from(offered.replace('/', "-")).is_ok();
            offered.iter().all(names)
        });
        Ok(Self {
            offered: offered.into(),
            named: named
                .ok_or_else(|| Error::invalid_input("upgrades must be names of protocols, as websocket"))?,
        })
    }

    /// Refuses with 426 a request that asks for nothing but protocols nobody here speaks (H-17). Whether a route takes what
    /// is offered is the route's matter.
    pub(super) fn check(&self, request: &Request<Body>) -> Result<(), HttpError> {
        let headers = request.headers();
        if !headers.contains_key(UPGRADE) || request.version() != Version::HTTP_11 {
            return Ok(());
        }
        // Without this option the header was meant for somebody before us.
        if !listed(headers, CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade")) {
            return Ok(());
        }
        let mut asked = listed(headers, UPGRADE).peekable();
        if asked.peek().is_none() || asked.any(|protocol| self.knows(protocol)) {
            return Ok(());
        }
        let error = Error::invalid_input("no such protocol is spoken here").with_code(Code::Unsupported);
        Err(HttpError::from(error).with_status(StatusCode::UPGRADE_REQUIRED))
    }

    /// Says in a refusal what is spoken.
    pub(super) fn name(&self, headers: &mut HeaderMap) {
        headers.insert(UPGRADE, self.named.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }

    fn knows(&self, protocol: &str) -> bool {
        let name = protocol.split('/').next().unwrap_or_default();
        let offered = |offered: &String| {
            [protocol, name]
                .iter()
                .any(|one| offered.eq_ignore_ascii_case(one))
        };
        IN_PASSING.iter().any(|known| known.eq_ignore_ascii_case(name)) || self.offered.iter().any(offered)
    }
}

/// The members of a header with a list. A line that is no text has none.
fn listed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or("?").split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_17_protocols_have_names() {
        let of =
            |names: &[&str]| Upgrades::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]).unwrap().named, "HTTP/1.1");
        assert_eq!(of(&["websocket", "chat/2"]).unwrap().named, "websocket, chat/2");
        for bad in ["", "a b", "a,b", "a\n", "é"] {
            assert!(of(&[bad]).unwrap_err().is_invalid_input(), "{bad:?}");
        }
        let chat = of(&["chat/2"]).unwrap();
        assert!(chat.knows("CHAT/2") && !chat.knows("chat/1") && !chat.knows("chat"));
    }
}
