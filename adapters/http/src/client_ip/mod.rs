//! Where a request really comes from, and who may say so.

mod network;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, FromRequestParts},
};
use http::{Extensions, HeaderMap, HeaderName, Request, header::FORWARDED, request::Parts};

pub use self::network::Network;
use crate::HttpOptions;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The header in which trusted proxies write the client's address. Only this one is read, and the other two are
/// removed: a proxy passes on what a client wrote into a header that it does not know.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientIpHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
    /// `X-Real-IP: client`.
    XRealIp,
}

/// The address of the client: the peer's, or what trusted proxies say of it. As an extractor it gives `None` for
/// requests that came through no server, in tests of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(client_ip(&parts.extensions)))
    }
}

/// Put into the extensions where the client is not the peer.
#[derive(Debug, Clone, Copy)]
struct Behind(IpAddr);

/// The client's address, as far as it is known.
pub(crate) fn client_ip(extensions: &Extensions) -> Option<IpAddr> {
    match extensions.get::<Behind>() {
        Some(Behind(client)) => Some(*client),
        None => peer(extensions),
    }
}

fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| address.ip().to_canonical())
}

/// The proxies whose headers are believed.
#[derive(Debug)]
pub(crate) struct Proxies {
    trusted: Box<[Network]>,
    header: ClientIpHeader,
}

impl Proxies {
    pub(crate) fn of(options: &HttpOptions) -> Self {
        Self {
            trusted: options.trusted_proxies.as_slice().into(),
            header: options.client_ip_header,
        }
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Removes what only a trusted proxy may say, and keeps the client's address if one said it.
    pub(crate) fn admit(&self, request: &mut Request<Body>) {
        let peer = peer(request.extensions()).filter(|peer| self.trusts(*peer));
        if peer.is_none() {
            remove(request.headers_mut(), is_claim);
            return;
        }
        let client = self.client(request.headers());
        let believed = self.header.name();
        remove(request.headers_mut(), |name| {
            *name != believed && [X_FORWARDED_FOR, FORWARDED, X_REAL_IP].contains(name)
        });
        if let Some(client) = client {
            request.extensions_mut().insert(Behind(client));
        }
    }

    /// Walks back from the nearest proxy to the first address that is none: what stands before it was written by the
    /// client.
    fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = None;
        let lines: Vec<&str> = headers
            .get_all(self.header.name())
            .iter()
            .map(|line| line.to_str().unwrap_or("unreadable"))
            .collect();
        for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(address) = self.header.address(entry.trim()) else {
                break;
            };
            client = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        client
    }
}

impl ClientIpHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
            Self::XRealIp => X_REAL_IP,
        }
    }

    /// The address in one entry; with or without a port, as proxies write it.
    fn address(self, entry: &str) -> Option<IpAddr> {
        let text = match self {
            Self::Forwarded => entry.split(';').find_map(|pair| {
                let (key, value) = pair.trim().split_once('=')?;
                key.eq_ignore_ascii_case("for").then_some(value.trim_matches('"'))
            })?,
            Self::XForwardedFor | Self::XRealIp => entry,
        };
        let bare = || {
            let inside = text.strip_prefix('[')?.strip_suffix(']')?;
            inside.parse().ok()
        };
        text.parse::<IpAddr>()
            .ok()
            .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
            .or_else(bare)
            .map(|address| address.to_canonical())
    }
}

/// Whether a header says who the caller is, where it comes from or how, which a client must not say itself.
fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes().first() {
        Some(b'f') => name == "forwarded",
        Some(b'x') => name.starts_with("x-forwarded-") || name == "x-real-ip" || name == "x-user-id",
        _ => false,
    }
}

fn remove(headers: &mut HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| wanted(name)).cloned() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
