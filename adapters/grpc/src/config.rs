//! What a gRPC server may cost.

use std::time::Duration;

use cqi_core::{Error, Result, tls::TlsOptions};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Address and limits of one server (ML-GRPC-3). The defaults are safe against slow and greedy clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcOptions {
    /// The name or address to listen on. Default `0.0.0.0`.
    pub host: String,
    /// The port; 0 takes a free one. Default 9000.
    pub port: u16,
    /// Certificate and key, and who vouches for clients. Default none: plain text.
    pub tls: Option<TlsOptions>,
    /// How long a new connection may take for its TLS handshake, and again for its HTTP/2 preface. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a call may take until its response begins, the arrival of its request included: for unary and
    /// client-streaming calls all of it. A shorter `grpc-timeout` of the client counts instead, and holds until the last
    /// message of a stream. The handler is dropped then, so what must not be cut in the middle belongs into a task of its
    /// own. Default 30 s.
    pub request_timeout: Duration,
    /// How long a connection may take nothing of what is sent on it. Default 30 s. A client that grants a single response
    /// no window slows down its stream, as readers do that take their time, and is bounded by its `grpc-timeout` and the
    /// connection's age only.
    pub write_timeout: Duration,
    /// How long a connection may be open without a call, pings or not. Default 5 min.
    pub idle_timeout: Duration,
    /// The pause between two pings that find dead connections. Default 60 s.
    pub keep_alive_interval: Duration,
    /// How long the answer to a ping may take. Default 20 s.
    pub keep_alive_timeout: Duration,
    /// After which time a connection takes no further calls, so that clients spread over new servers; up to a tenth is
    /// added by chance, so that not all come back at once. Default 1 h.
    pub max_connection_age: Duration,
    /// How long calls may go on on a connection that is over its age; then they are cut, endless streams too.
    /// Default 10 min.
    pub max_connection_age_grace: Duration,
    /// How long calls in flight have to finish in a shutdown; then they are cut. Default 20 s, below the app's 30 s.
    pub shutdown_grace: Duration,
    /// The largest message from a client, in bytes as sent. Default 4 MiB. Services of tonic have a limit of their own on
    /// messages after decompression, 4 MiB too: a higher one has to be set on both.
    pub max_request_bytes: usize,
    /// The largest message to a client, in bytes as sent. Default 4 MiB, which is what most clients take.
    pub max_response_bytes: usize,
    /// The largest metadata of a request, in bytes: 8 KiB to 1 MiB. Default 16 KiB.
    pub max_header_bytes: u32,
    /// The most open connections; further ones wait in the kernel's queue. Default 10,000.
    pub max_connections: usize,
    /// The most open connections of one client, an IPv4 address or the /64 of an IPv6 one; further ones are closed. Where
    /// a proxy stands in front, all are the proxy's. Default 1,000.
    pub max_connections_per_client: usize,
    /// The most calls at the same time on one connection. Default 100.
    pub max_concurrent_streams: u32,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 9000,
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(5 * 60),
            keep_alive_interval: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(20),
            max_connection_age: Duration::from_secs(60 * 60),
            max_connection_age_grace: Duration::from_secs(10 * 60),
            shutdown_grace: Duration::from_secs(20),
            max_request_bytes: 4 << 20,
            max_response_bytes: 4 << 20,
            max_header_bytes: 16 << 10,
            max_connections: 10_000,
            max_connections_per_client: 1_000,
            max_concurrent_streams: 100,
        }
    }
}

impl GrpcOptions {
    /// Default limits on `host` and `port`.
    pub fn listen(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            ..Self::default()
        }
    }

    /// Checks every field but the files of `tls`, which are read when the server starts.
    ///
    /// # Errors
    /// `InvalidInput` listing every faulty field with its rule.
    pub fn validate(&self) -> Result<()> {
        let durations = [
            ("handshake_timeout", self.handshake_timeout),
            ("request_timeout", self.request_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout),
            ("keep_alive_interval", self.keep_alive_interval),
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("max_connection_age", self.max_connection_age),
            ("max_connection_age_grace", self.max_connection_age_grace),
            ("shutdown_grace", self.shutdown_grace),
        ];
        let counts = [
            ("max_request_bytes", self.max_request_bytes),
            ("max_response_bytes", self.max_response_bytes),
            ("max_connections", self.max_connections),
            ("max_connections_per_client", self.max_connections_per_client),
            ("max_concurrent_streams", self.max_concurrent_streams as usize),
        ];
        let mut faults: Vec<String> = durations
            .iter()
            .filter(|(_, value)| value.is_zero() || *value > DAY)
            .map(|(name, _)| format!("{name} must be above zero and at most a day"))
            .collect();
        let zeros = counts.iter().filter(|(_, value)| *value == 0);
        faults.extend(zeros.map(|(name, _)| format!("{name} must be above zero")));
        if !(8 << 10..=1 << 20).contains(&self.max_header_bytes) {
            faults.push("max_header_bytes must be 8 KiB to 1 MiB".to_owned());
        }
        if self.host.is_empty() {
            faults.push("host must not be empty".to_owned());
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "grpc server: {}",
            faults.join("; ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_grpc_3_defaults_are_valid_and_every_fault_is_named() {
        GrpcOptions::default().validate().unwrap();
        let bad = GrpcOptions {
            host: String::new(),
            handshake_timeout: Duration::ZERO,
            max_connection_age: Duration::MAX,
            max_request_bytes: 0,
            max_header_bytes: 100,
            ..GrpcOptions::default()
        };
        let error = bad.validate().unwrap_err().to_string();
        for field in [
            "host",
            "handshake_timeout",
            "max_connection_age",
            "max_request_bytes",
            "max_header_bytes",
        ] {
            assert!(error.contains(&format!("{field} must")), "{field} in {error}");
        }
        assert!(!error.contains("request_timeout"), "{error}");
    }
}
