//! Where a client calls, and what it may cost.

use std::time::Duration;

use cqi_core::{Error, Result, tls::ClientTlsOptions};
use reqwest::{Url, redirect};

/// The most redirects of one call.
const MAX_REDIRECTS: usize = 5;

/// Address and limits of one [`HttpClient`](super::HttpClient).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpClientOptions {
    /// The URL of the other service, with `http` or `https`, a host, and perhaps a port and a path. No user, no query.
    pub base_url: String,
    /// More roots, and a certificate of its own. Default: the roots of the public web, and no certificate.
    pub tls: ClientTlsOptions,
    /// How long making a connection may take. Default 3 s.
    pub connect_timeout: Duration,
    /// How long a connection is kept without a request. Default 60 s.
    pub idle_timeout: Duration,
    /// The largest body of a response, in bytes. Default 8 MiB.
    pub max_response_bytes: usize,
    /// Whether redirects within scheme, host and port are followed, at most 5. Others are an error. Default off.
    pub same_origin_redirects: bool,
    /// Whether the verified credential of the request that is handled, over HTTP or gRPC, is sent along, where a call has
    /// none of its own. Only for services that may act as the caller. Default off.
    pub propagate_auth: bool,
}

impl HttpClientOptions {
    /// The defaults for this base URL.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            tls: ClientTlsOptions::default(),
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(60),
            max_response_bytes: 8 * 1024 * 1024,
            same_origin_redirects: false,
            propagate_auth: false,
        }
    }

    pub(super) fn base(&self) -> Result<Url> {
        // The URL is not shown: it may have a password.
        let wrong = |rule: &str| Error::invalid_input(format!("http client: {rule}"));
        let base = Url::parse(&self.base_url).map_err(|_| wrong("base_url must be a URL"))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(wrong("base_url must have http or https and a host"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong("base_url must not have a user"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(wrong("base_url must not have a query or fragment"));
        }
        if self.connect_timeout.is_zero() || self.max_response_bytes == 0 {
            return Err(wrong("connect_timeout and max_response_bytes must be above zero"));
        }
        Ok(base)
    }

    pub(super) fn redirects(&self) -> redirect::Policy {
        if !self.same_origin_redirects {
            return redirect::Policy::none();
        }
        redirect::Policy::custom(|attempt| {
            let same = attempt
                .previous()
                .first()
                .is_some_and(|first| first.origin() == attempt.url().origin());
            if same && attempt.previous().len() <= MAX_REDIRECTS {
                attempt.follow()
            } else {
                // The redirect itself is the response then.
                attempt.stop()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_base_urls_are_refused_and_not_shown() {
        for bad in [
            "",
            "canary",
            "ftp://canary",
            "http://",
            "http://user:canary@a",
            "http://a?canary",
            "http://a#canary",
            "unix:/canary",
        ] {
            let error = HttpClientOptions::new(bad).base().unwrap_err();
            assert!(error.is_invalid_input(), "{bad}");
            assert!(!error.chain().to_string().contains("canary"), "{bad}: {error}");
        }
        HttpClientOptions::new("https://example.com:8443/v1/")
            .base()
            .unwrap();
    }
}
