//! TLS of clients.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring, sign::SingleCertAndKey};

use super::files::{certificates, fault, identity};
use crate::{Error, Result};

/// Whom a client believes, and how it shows who it is (P-AUTH-4). TLS 1.2 and 1.3.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTlsOptions {
    /// A PEM file with roots that vouch for servers, beside those the client knows anyway.
    pub roots: Option<PathBuf>,
    /// A PEM file with the client's own certificate first. Needs `key`.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the private key of that certificate.
    pub key: Option<PathBuf>,
}

impl ClientTlsOptions {
    /// Reads the files and makes a configuration that believes `roots` too and offers `alpn`, the protocols, the
    /// preferred one first.
    ///
    /// Blocks while it reads: in async code, call it in `spawn_blocking`.
    ///
    /// # Errors
    /// `InvalidInput` that names the file and the rule it breaks, or says that certificate and key belong together.
    pub fn client_config(&self, mut roots: RootCertStore, alpn: &[&[u8]]) -> Result<ClientConfig> {
        if let Some(file) = &self.roots {
            for root in certificates(file, "roots")? {
                roots.add(root).map_err(|error| {
                    fault(file, "roots", "must hold certificates of authorities").with_source(error)
                })?;
            }
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::permanent("TLS versions").with_source(error))?
            .with_root_certificates(roots);
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let identity = identity(certificate, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err(Error::invalid_input(
                    "TLS: a client needs both certificate and key, or none of them",
                ));
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}
