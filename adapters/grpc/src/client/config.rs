//! Where a channel leads, and what its calls may cost.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cqi_core::{
    Error, Result,
    observe::{Observer, Silent},
    policy::Retry,
    registry::Registry,
    secret::Secret,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Whom a channel calls.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum Target {
    /// One address, `http://host:port` or `https://host:port`.
    Uri(String),
    /// All running instances of a service, in turn. Their port is the `grpc_port` of their metadata, or else the one
    /// they are registered with.
    Service {
        /// Where instances are found.
        registry: Arc<dyn Registry>,
        /// The service's name.
        name: String,
    },
}

/// TLS of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrpcClientTls {
    /// A PEM file with the roots that vouch for the server. Default none: those of the web.
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate the client shows, and one with its key. Default none.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have. Default none: the host that is called.
    pub domain: Option<String>,
}

/// Target and limits of one channel.
#[derive(Debug, Clone)]
pub struct GrpcClientOptions {
    /// Whom to call.
    pub target: Target,
    /// TLS. Default none: plain text for `http://` and services, the web's roots for `https://`.
    pub tls: Option<GrpcClientTls>,
    /// How long a connection may take. Default 3 s.
    pub connect_timeout: Duration,
    /// How long a call may take, all attempts and the whole of a stream included, when the call itself says nothing
    /// (`Request::set_timeout`): a stream that lasts needs to. What is left of the request or event that is handled is the
    /// most in any case. Default 5 s.
    pub timeout: Duration,
    /// The pause between two pings, also without a call. Default 10 s. Servers that are not cqi's may count that as
    /// abuse: Go's take one ping in 5 min, unless told otherwise.
    pub keep_alive_interval: Duration,
    /// How long the answer to a ping may take; then the connection is made anew. Default 5 s.
    pub keep_alive_timeout: Duration,
    /// How often and how fast calls are repeated that have certainly not been sent, and after UNAVAILABLE those of a
    /// [`GrpcChannel::repeatable`](crate::GrpcChannel::repeatable). Default: 3 attempts, pauses from 50 ms, doubling up
    /// to 1 s.
    pub retry: Retry,
    /// A credential for every call that has none, as `authorization: Bearer …`. Default none.
    pub credential: Option<Secret>,
    /// Whether calls made while a request is handled, over gRPC or HTTP, carry on the credential of its caller. Only for
    /// servers that may act in the caller's name. Default false.
    pub forward_credential: bool,
    /// Who is told of calls, and knows the current trace. Default nobody.
    pub observer: Arc<dyn Observer>,
}

impl GrpcClientOptions {
    /// Default limits, and this target.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            tls: None,
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            retry: Retry {
                initial: Duration::from_millis(50),
                max: Duration::from_secs(1),
                ..Retry::default()
            },
            credential: None,
            forward_credential: false,
            observer: Arc::new(Silent),
        }
    }

    /// Default limits, and one address, `http://host:port` or `https://host:port`.
    pub fn uri(uri: impl Into<String>) -> Self {
        Self::new(Target::Uri(uri.into()))
    }

    /// Default limits, and all instances of a service.
    pub fn service(registry: Arc<dyn Registry>, name: impl Into<String>) -> Self {
        let name = name.into();
        Self::new(Target::Service { registry, name })
    }

    /// Checks everything but the target's address and the files of `tls`.
    ///
    /// # Errors
    /// `InvalidInput` with the first broken rule.
    pub fn validate(&self) -> Result<()> {
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("timeout", self.timeout),
            ("keep_alive_interval", self.keep_alive_interval),
            ("keep_alive_timeout", self.keep_alive_timeout),
        ];
        for (name, value) in durations {
            if value.is_zero() || value > Duration::from_secs(24 * 60 * 60) {
                let why = format!("grpc client: {name} must be above zero and at most a day");
                return Err(Error::invalid_input(why));
            }
        }
        self.retry.validate()
    }

    /// The endpoint of one address under these limits. With `tls`, which was read from its files.
    pub(super) fn endpoint(&self, uri: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint> {
        let failed =
            |error| Error::invalid_input("grpc client: malformed address or TLS files").with_source(error);
        let endpoint = Endpoint::from_shared(uri.to_owned())
            .map_err(failed)?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.keep_alive_interval)
            .keep_alive_timeout(self.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(16 << 10)
            .http2_max_local_error_reset_streams(1024);
        match tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(failed),
            None => Ok(endpoint),
        }
    }

    /// Reads the files of `tls`; blocks.
    pub(super) fn read_tls(&self) -> Result<Option<ClientTlsConfig>> {
        let web = GrpcClientTls::default();
        let tls = match (&self.tls, &self.target) {
            (Some(tls), _) => tls,
            (None, Target::Uri(uri)) if uri.starts_with("https://") => &web,
            (None, _) => return Ok(None),
        };
        let mut config = ClientTlsConfig::new().timeout(self.connect_timeout);
        config = match &tls.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(read(ca)?)),
            None => config.with_webpki_roots(),
        };
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(domain) = &tls.domain {
            config = config.domain_name(domain);
        }
        Ok(Some(config))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| {
        Error::invalid_input(format!("grpc client: {} cannot be read", file.display())).with_source(error)
    })
}
