//! What an HTTP server may cost.

use std::time::Duration;

use cqi_core::{Error, Result, tls::TlsOptions};

use crate::{
    AuthOptions, ClientIpHeader, CorsOptions, Network, RateLimit, SecurityHeaders,
    layers::{Cors, Fixed},
    stack::Upgrades,
};

/// Address and limits of one server (ML-HTTP-4). The defaults are safe against slow and greedy clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// The name or address to listen on. Default `0.0.0.0`.
    pub host: String,
    /// The port; 0 takes a free one. Default 8080.
    pub port: u16,
    /// Certificate and key. Default none: no TLS, as behind a proxy that ends it.
    pub tls: Option<TlsOptions>,
    /// How long a TLS handshake may take, also that of a silent connection. Default 10 s.
    pub handshake_timeout: Duration,
    /// The proxies that may say where a request comes from, and as whom. Default none: `X-Forwarded-*`, `Forwarded`,
    /// `X-Real-IP` and `X-User-Id` are removed from every request.
    pub trusted_proxies: Vec<Network>,
    /// Where these proxies write the client's address. Default `X-Forwarded-For`.
    pub client_ip_header: ClientIpHeader,
    /// How long a request's head may take, also the first one of a silent connection. Default 10 s.
    pub header_timeout: Duration,
    /// How long a handler may take until its response's head. Default 30 s. The handler is dropped then, so what must
    /// not be cut in the middle belongs into a task of its own.
    pub request_timeout: Duration,
    /// How long the whole body of a request may take to arrive. Default 30 s.
    pub body_timeout: Duration,
    /// How long a client may refuse to take more of a response. Then its connection is closed; where it only grants the
    /// response no window, over HTTP/2, the stream is reset and the others go on. Default 30 s.
    pub write_timeout: Duration,
    /// How long a connection may be open between two requests. Default 75 s.
    pub idle_timeout: Duration,
    /// How long requests in flight have to finish in a shutdown; then they are cut. Default 20 s, below the app's 30 s.
    pub shutdown_grace: Duration,
    /// The largest body of a request, in bytes. Default 2 MiB.
    pub max_body_bytes: usize,
    /// The largest head of a request, in bytes: 8 KiB to 1 MiB. Default 32 KiB.
    pub max_header_bytes: usize,
    /// The most header lines of a request. Default 100.
    pub max_headers: usize,
    /// Whether bodies with a `Content-Encoding` are let through, encoded as they are. Default off: they are answered with
    /// 415, since what they decode to has no bound (H-09).
    pub encoded_bodies: bool,
    /// The most requests at the same time, over all connections; further ones are answered with 503 and `Retry-After`.
    /// The probes are exempt. Default 10,000.
    pub max_in_flight: usize,
    /// How many requests one client may send. The probes are exempt. Default no limit; for single routes there is
    /// [`limit_rate`](crate::limit_rate).
    pub rate_limit: Option<RateLimit>,
    /// The protocols that routes can go on in after an `Upgrade`. Asking for none but others is answered with 426, except
    /// for HTTP/2 and TLS, which clients ask for in passing. Default `websocket`.
    pub upgrades: Vec<String>,
    /// Which pages of other origins may call. Default none.
    pub cors: Option<CorsOptions>,
    /// Headers for browsers. Default on.
    pub security_headers: Option<SecurityHeaders>,
    /// Whether larger bodies of text and data are compressed with gzip for a client that accepts it. Default off: where
    /// an answer holds a secret beside something that an attacker chose, its length tells about the secret (BREACH).
    pub compression: bool,
    /// Who is served without a credential, and how often one may be wrong. Takes effect with
    /// [`HttpServer::auth`](crate::HttpServer::auth).
    pub auth: AuthOptions,
    /// The most open connections; further ones wait in the kernel's queue. Default 10,000.
    pub max_connections: usize,
    /// The most open connections of one client, which is an IPv4 address or an IPv6 /64; further ones are closed at
    /// once. Trusted proxies may have any number. Default 1,000.
    pub max_connections_per_client: usize,
    /// The most requests at the same time on one HTTP/2 connection. Default 100.
    pub max_concurrent_streams: u32,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 8080,
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            trusted_proxies: Vec::new(),
            client_ip_header: ClientIpHeader::default(),
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            shutdown_grace: Duration::from_secs(20),
            max_body_bytes: 2 * 1024 * 1024,
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            encoded_bodies: false,
            max_in_flight: 10_000,
            rate_limit: None,
            upgrades: vec!["websocket".to_owned()],
            cors: None,
            security_headers: Some(SecurityHeaders::default()),
            compression: false,
            auth: AuthOptions::default(),
            max_connections: 10_000,
            max_connections_per_client: 1_000,
            max_concurrent_streams: 100,
        }
    }
}

impl HttpOptions {
    /// Default limits on `host` and `port`.
    pub fn listen(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            ..Self::default()
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `InvalidInput` listing every faulty field with its rule.
    pub fn validate(&self) -> Result<()> {
        let durations = [
            ("handshake_timeout", self.handshake_timeout),
            ("header_timeout", self.header_timeout),
            ("request_timeout", self.request_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout),
            ("shutdown_grace", self.shutdown_grace),
        ];
        let counts = [
            ("max_body_bytes", self.max_body_bytes),
            ("max_headers", self.max_headers),
            ("max_in_flight", self.max_in_flight),
            ("max_connections", self.max_connections),
            ("max_connections_per_client", self.max_connections_per_client),
            ("max_concurrent_streams", self.max_concurrent_streams as usize),
        ];
        let mut faults: Vec<String> = durations
            .iter()
            .filter(|(_, value)| value.is_zero() || *value > Duration::from_secs(24 * 60 * 60))
            .map(|(name, _)| format!("{name} must be above zero and at most a day"))
            .collect();
        let zeros = counts.iter().filter(|(_, value)| *value == 0);
        faults.extend(zeros.map(|(name, _)| format!("{name} must be above zero")));
        if !(8 * 1024..=1024 * 1024).contains(&self.max_header_bytes) {
            faults.push("max_header_bytes must be 8 KiB to 1 MiB".to_owned());
        }
        if self.host.is_empty() {
            faults.push("host must not be empty".to_owned());
        }
        faults.extend(self.auth.faults());
        let asks = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if self.auth.client_certificates && !asks {
            faults.push("auth.client_certificates must go with tls.client_ca".to_owned());
        }
        if let Some(fault) = self.rate_limit.and_then(|limit| limit.fault()) {
            faults.push(format!("rate_limit {fault}"));
        }
        let cors = self.cors.as_ref().and_then(|cors| Cors::new(cors).err());
        let headers = self.security_headers.as_ref();
        let headers = headers.and_then(|headers| Fixed::new(headers, true).err());
        let upgrades = Upgrades::new(&self.upgrades).err();
        faults.extend(
            [cors, headers, upgrades]
                .into_iter()
                .flatten()
                .map(|error| error.message().to_owned()),
        );
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "http server: {}",
            faults.join("; ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_http_4_defaults_are_valid_and_every_fault_is_named() {
        HttpOptions::default().validate().unwrap();
        let bad = HttpOptions {
            host: String::new(),
            header_timeout: Duration::ZERO,
            idle_timeout: Duration::MAX,
            max_body_bytes: 0,
            max_header_bytes: 100,
            rate_limit: Some(RateLimit::per_second(0)),
            upgrades: vec!["web socket".to_owned()],
            auth: AuthOptions {
                open_paths: vec!["/a/../b".to_owned()],
                client_certificates: true,
                ..AuthOptions::default()
            },
            ..HttpOptions::default()
        };
        let error = bad.validate().unwrap_err().to_string();
        for field in [
            "host",
            "header_timeout",
            "idle_timeout",
            "max_body_bytes",
            "max_header_bytes",
            "rate_limit",
            "upgrades",
            "auth.open_paths",
            "auth.client_certificates",
        ] {
            assert!(error.contains(&format!("{field} must")), "{field} in {error}");
        }
        assert!(!error.contains("request_timeout"), "{error}");
    }
}
