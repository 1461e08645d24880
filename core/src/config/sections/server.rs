use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations, duration};

/// The server for requests from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerConfig {
    /// The address it listens on. Default `0.0.0.0`.
    pub host: String,
    /// The port it listens on; 0 takes a free one. Default 8080.
    pub port: u16,
    /// How long a request's head may take to arrive. Default 10 s.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// How long a request may take to arrive, body included; at least `header_timeout`. Default 30 s.
    #[serde(with = "duration")]
    pub read_timeout: Duration,
    /// How long answering a request may take. Default 30 s.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// How long the whole shutdown may take, `shutdown_delay` included. Default 30 s.
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
    /// How long the server goes on after saying it is not ready, so that load balancers notice; shorter than
    /// `shutdown_timeout`. Default 0 s; behind Kubernetes 5 s or more.
    #[serde(with = "duration")]
    pub shutdown_delay: Duration,
    /// The largest request head, in bytes, 8 KiB to 1 MiB. Default 16 KiB.
    pub max_header_bytes: usize,
    /// The most headers of a request, 1 to 1,000. Default 100.
    pub max_headers: usize,
    /// The largest request body, in bytes. Default 2 MiB.
    pub max_body_bytes: usize,
    /// The most connections at a time, at least 1. Default 10,000.
    pub max_connections: usize,
    /// The path of the certificates' PEM file, the server's own first; with `tls_key` the servers speak TLS only. Default
    /// empty: no TLS.
    pub tls_certificate: String,
    /// The path of the PEM file with the certificate's private key.
    pub tls_key: String,
    /// The path of the PEM file with the certificates that sign clients' ones. A client that shows one is known by it, and
    /// one that shows neither that nor a credential is refused. Default empty.
    pub tls_client_ca: String,
    /// Whether every client must show a certificate. Default false.
    pub tls_require_client: bool,
    /// How often the files of TLS are looked at; what has changed holds for new connections, and files that cannot be used
    /// change nothing. 0 s means never. Default 60 s.
    #[serde(with = "duration")]
    pub tls_reload_interval: Duration,
    /// Web pages of these origins may call, for example `https://app.example.com`; `*` for all. Default none.
    pub cors_origins: Vec<String>,
    /// The proxies in front, as addresses or networks (`10.0.0.0/8`): what they say of the client is believed. Default
    /// none.
    pub trusted_proxies: Vec<String>,
    /// The most requests a second of one client, 0 for no limit. Default 0.
    pub rate_limit: u32,
    /// The most requests at a time, at least 1; further ones are answered with 503 at once. Default 10,000.
    pub max_in_flight: usize,
    /// Whether large answers are compressed for clients that take that. Default false.
    pub compression: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".into(),
            port: 8080,
            header_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(30),
            shutdown_delay: Duration::ZERO,
            max_header_bytes: 16 << 10,
            max_headers: 100,
            max_body_bytes: 2 << 20,
            max_connections: 10_000,
            tls_certificate: String::new(),
            tls_key: String::new(),
            tls_client_ca: String::new(),
            tls_require_client: false,
            tls_reload_interval: Duration::from_secs(60),
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            rate_limit: 0,
            max_in_flight: 10_000,
            compression: false,
        }
    }
}

impl Validate for ServerConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.required("host", &self.host);
        violations.positive_duration("header_timeout", self.header_timeout);
        violations.positive_duration("read_timeout", self.read_timeout);
        let ordered = self.header_timeout <= self.read_timeout;
        violations.rule("header_timeout", ordered, "must not be longer than read_timeout");
        violations.positive_duration("write_timeout", self.write_timeout);
        violations.positive_duration("shutdown_timeout", self.shutdown_timeout);
        let leaves_time = self.shutdown_delay < self.shutdown_timeout;
        violations.rule(
            "shutdown_delay",
            leaves_time,
            "must be shorter than shutdown_timeout",
        );
        violations.range("max_header_bytes", self.max_header_bytes, 8 << 10..=1 << 20);
        violations.range("max_headers", self.max_headers, 1..=1000);
        violations.rule("max_body_bytes", self.max_body_bytes > 0, "must be at least 1");
        violations.rule("max_connections", self.max_connections > 0, "must be at least 1");
        violations.rule("max_in_flight", self.max_in_flight > 0, "must be at least 1");
        let tls = !self.tls_certificate.is_empty();
        violations.rule(
            "tls_key",
            tls != self.tls_key.is_empty(),
            "must be given together with tls_certificate",
        );
        let ca = !self.tls_client_ca.is_empty();
        violations.max_duration("tls_reload_interval", self.tls_reload_interval);
        violations.rule("tls_client_ca", tls || !ca, "needs tls_certificate");
        violations.rule(
            "tls_require_client",
            ca || !self.tls_require_client,
            "needs tls_client_ca",
        );
    }
}
