//! Certificates and keys in PEM form.

use std::{fmt, fs::File, io::Read as _, path::Path};

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// The largest file that is read, in bytes: a chain or a bundle of roots has some hundred KiB at most.
pub(super) const MAX_FILE: u64 = 4 << 20;

/// A chain and the key of its first certificate.
pub(super) fn identity(
    certificate: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey> {
    let chain = certificates(certificate, "certificate")?;
    let text = read(key_file, "key")?;
    // Causes of malformed keys are left out: they may quote the file.
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| fault(key_file, "key", "must hold a private key in PEM form"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| fault(key_file, "key", "must be an RSA, ECDSA or Ed25519 key"))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Ok(()) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let rule = format_args!("is not the key of the certificate {}", certificate.display());
            Err(fault(key_file, "key", rule))
        }
        Err(error) => {
            Err(fault(certificate, "certificate", "must be an X.509 certificate").with_source(error))
        }
    }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(file: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(file, what)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(file, what, "must be in PEM form").with_source(error))?;
    if found.is_empty() {
        return Err(fault(file, what, "must hold a certificate in PEM form"));
    }
    Ok(found)
}

pub(super) fn read(file: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    let length = File::open(file)
        .and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut text))
        .map_err(|error| fault(file, what, "cannot be read").with_source(error))?;
    if length as u64 > MAX_FILE {
        return Err(fault(file, what, "must be at most 4 MiB"));
    }
    Ok(text)
}

/// A file and the rule it breaks.
pub(super) fn fault(file: &Path, what: &str, rule: impl fmt::Display) -> Error {
    Error::invalid_input(format!("TLS {what} {} {rule}", file.display()))
}
