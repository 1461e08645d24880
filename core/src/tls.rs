//! TLS, the same for HTTP and gRPC: certificates from files, identities of clients.
//!
//! On rustls with `ring`; nothing is installed for the whole process.

mod client;
mod files;
mod reload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};
use rustls_pki_types::CertificateDer;

use self::files::{certificates, fault, identity};
pub use self::{
    client::ClientTlsOptions,
    reload::{LiveTls, TlsFiles},
};
use crate::{
    Error, Result,
    auth::{AuthContext, AuthType},
};

/// The certificate of a server, and whether its clients have to show one (ML-GRPC-3). TLS 1.2 and 1.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// A PEM file with the server's certificate first, and those between it and a root after it.
    pub certificate: PathBuf,
    /// A PEM file with the certificate's private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
    /// A PEM file with the roots that vouch for clients. With none, clients are not asked for a certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is turned away in the handshake. Needs `client_ca`. Without it such a
    /// client is served, as one that is not authenticated. One with a certificate of another root is always turned away.
    pub require_client: bool,
    /// How often the files are looked at while the server runs; what has changed holds for new connections. Zero means
    /// never. Default 60 s.
    pub reload_interval: Duration,
}

impl TlsOptions {
    /// A server's certificate and key; clients are not asked for one.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
            require_client: false,
            reload_interval: Duration::from_secs(60),
        }
    }

    /// Reads the files and makes a configuration that offers `alpn`, the protocols, the preferred one first.
    ///
    /// Blocks while it reads: in async code, call it in `spawn_blocking`.
    ///
    /// # Errors
    /// `InvalidInput` that names the file and the rule it breaks: cannot be read, has no certificate or key, is malformed,
    /// the key is not the certificate's, a client must be known and nobody vouches for one.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let identity = identity(&self.certificate, &self.key, &provider)?;
        let clients = self.client_verifier(&provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::permanent("TLS versions").with_source(error))?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(clients),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn client_verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
        let Some(file) = &self.client_ca else {
            return if self.require_client {
                Err(Error::invalid_input(
                    "TLS: client_ca must be given where a client needs a certificate",
                ))
            } else {
                Ok(None)
            };
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(file, "client CA")? {
            roots.add(root).map_err(|error| {
                fault(file, "client CA", "must hold certificates of authorities").with_source(error)
            })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if self.require_client {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        let verifier = builder
            .build()
            .map_err(|error| fault(file, "client CA", "cannot be used").with_source(error))?;
        Ok(Some(verifier))
    }
}

/// Who a client is, by the chain that its handshake has verified: the first URI among the alternative names of its
/// certificate (a SPIFFE id for example), else the first DNS name that is no wildcard, as `service_id`. `None` without
/// a certificate or such a name: a client that cannot be named is not authenticated.
pub fn peer_identity(certificates: &[CertificateDer<'_>]) -> Option<AuthContext> {
    let certificate = webpki::EndEntityCert::try_from(certificates.first()?).ok()?;
    let mut names = certificate.valid_uri_names().chain(
        certificate
            .valid_dns_names()
            .filter(|name| !name.starts_with('*')),
    );
    Some(AuthContext::new(AuthType::Mtls).with_service(names.next()?))
}

#[cfg(test)]
mod tests;
