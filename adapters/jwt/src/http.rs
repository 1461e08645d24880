//! Documents of an issuer, fetched with every limit.

use std::{sync::Arc, time::Duration};

use cqi_core::{Error, Result, config::is_loopback};
use reqwest::{Client, Response, Url, header::CONTENT_TYPE, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::JwksOptions;

/// The longest document, in bytes.
const MAX_DOCUMENT: usize = 256 << 10;

/// Fetches JSON: no redirects, no cookies, no more than 256 KiB, all of it within one deadline.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    client: Client,
    timeout: Duration,
}

impl Fetcher {
    pub(crate) fn new(options: &JwksOptions) -> Result<Self> {
        // With a configuration of its own it needs no provider installed for the process, without which building it would
        // panic.
        let client = Client::builder()
            .tls_backend_preconfigured(tls(options)?)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .timeout(options.timeout)
            .build()
            .map_err(|error| Error::permanent("cannot make an HTTP client").with_source(error))?;
        Ok(Self {
            client,
            timeout: options.timeout,
        })
    }

    /// Fetches a document.
    ///
    /// # Errors
    /// `Temporary` when there is no answer in time or the server is unwell, `Permanent` when the answer is none that helps.
    pub(crate) async fn json(&self, url: &Url) -> Result<Vec<u8>> {
        tokio::time::timeout(self.timeout, self.fetch(url))
            .await
            .unwrap_or_else(|_| Err(Error::timeout(self.timeout)))
            .map_err(|error| error.with_context("url", shown(url)))
    }

    async fn fetch(&self, url: &Url) -> Result<Vec<u8>> {
        let request = self.client.get(url.clone()).header("accept", "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        accept(&response)?;
        let mut document = Vec::new();
        while let Some(part) = response.chunk().await.map_err(unreachable)? {
            if document.len() + part.len() > MAX_DOCUMENT {
                return Err(too_long());
            }
            document.extend_from_slice(&part);
        }
        Ok(document)
    }
}

fn accept(response: &Response) -> Result<()> {
    let status = response.status();
    let answered = |error: Error| error.with_context("status", status.as_u16());
    if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
        return Err(answered(Error::temporary("the server of token keys is unwell")));
    }
    if status.as_u16() != 200 {
        return Err(answered(Error::permanent(
            "the server of token keys did not answer with a document",
        )));
    }
    let media_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = media_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    let json = essence.eq_ignore_ascii_case("application/json")
        || essence.len() > 5 && essence.to_ascii_lowercase().ends_with("+json");
    if !json {
        return Err(Error::permanent(
            "the server of token keys did not answer with JSON",
        ));
    }
    match response.content_length() {
        Some(length) if length > MAX_DOCUMENT as u64 => Err(too_long()),
        _ => Ok(()),
    }
}

fn too_long() -> Error {
    Error::permanent("the document with token keys has more than 256 KiB")
}

fn unreachable(error: reqwest::Error) -> Error {
    Error::temporary("the server of token keys cannot be reached").with_source(error.without_url())
}

/// The roots of the web, or those given; TLS 1.2 and 1.3.
fn tls(options: &JwksOptions) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &options.roots {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            let fault = || Error::invalid_input("roots must hold certificates in PEM form");
            for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(root.map_err(|_| fault())?).map_err(|_| fault())?;
            }
            if roots.is_empty() {
                return Err(fault());
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::permanent("TLS versions").with_source(error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Reads the address of a document: `https`, or `http` to this machine.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn address(text: &str) -> Result<Url> {
    let fault = |rule: &'static str| Error::invalid_input(rule).with_operation("jwt.connect");
    let url = Url::parse(text).map_err(|_| fault("the address of token keys must be a URL"))?;
    let safe =
        url.scheme() == "https" || url.scheme() == "http" && is_loopback(url.host_str().unwrap_or_default());
    if !safe {
        return Err(
            fault("the address of token keys must begin with https://").with_context("url", shown(&url))
        );
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(fault(
            "the address of token keys must have neither a user nor a fragment",
        ));
    }
    Ok(url)
}

/// An address as it may be logged: a query or a user may be secret.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{}://{}{port}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_17_keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://id.example.com/keys",
            "https://id.example.com:8443/keys?v=1",
            "http://127.0.0.1:9/keys",
            "http://127.9.9.9/keys",
            "http://[::1]:9/keys",
            "http://localhost/keys",
        ] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "keys",
            "http://id.example.com/keys",
            "http://localhost.example.com/keys",
            "http://127.0.0.1.example.com/keys",
            "http://10.0.0.1/keys",
            "file:///etc/passwd",
            "ftp://127.0.0.1/keys",
            "https://user@id.example.com/keys",
            "https://user:canary@id.example.com/keys",
            "https://id.example.com/keys#canary",
        ] {
            let error = address(bad).unwrap_err();
            assert!(
                error.is_invalid_input() && !error.to_string().contains("canary"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn roots_are_certificates() {
        let with = |roots: &str| {
            let options = JwksOptions {
                roots: Some(roots.to_owned()),
                ..JwksOptions::default()
            };
            Fetcher::new(&options)
        };
        assert!(with(include_str!("../tests/it/keys/certificate.pem")).is_ok());
        assert!(
            with(include_str!("../tests/it/keys/rsa.pub.pem"))
                .unwrap_err()
                .is_invalid_input()
        );
        assert!(with("").unwrap_err().is_invalid_input());
    }
}
