//! Calls to other services.

mod error;
mod options;
mod propagate;
mod request;
mod response;

use std::{fmt, sync::Arc};

use cqi_core::{Error, Result, policy::Policy};
use http::Method;
use reqwest::{Client, Url};
use rustls::RootCertStore;

pub use self::{options::HttpClientOptions, request::ClientRequest, response::ClientResponse};

/// A client for one other service. Cheap to clone; clones share connections.
///
/// Every call is under the client's [`Policy`]: a deadline for all of it, the body included; repeated attempts, of a
/// call that is not idempotent only when it certainly had no effect; an observation. A call made while a request of
/// any protocol or an event is handled takes its trace, its request id and its deadline along.
///
/// ```no_run
/// use cqi_core::policy::Policy;
/// use cqi_http::{HttpClient, HttpClientOptions};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Price {
///     cents: u64,
/// }
///
/// # async fn run() -> cqi_core::Result<()> {
/// let prices = HttpClient::new(HttpClientOptions::new("http://prices:8080/v1"), Policy::default())?;
/// let price: Price = prices.get("/assets/eth").query("currency", "eur").send().await?.json()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    http: Client,
    base: Url,
    options: HttpClientOptions,
    policy: Policy,
}

impl HttpClient {
    /// A client for the service at the base URL. Opens no connection. Reads the files of TLS, so in async code with such
    /// files it belongs into `spawn_blocking`.
    ///
    /// # Errors
    /// `InvalidInput` naming the option, or the file and the rule it breaks.
    pub fn new(options: HttpClientOptions, policy: Policy) -> Result<Self> {
        let base = options.base()?;
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let tls = options.tls.client_config(roots, &[b"h2", b"http/1.1"])?;
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(options.connect_timeout)
            // Below what servers grant a silent connection, so that they do not close it under a request.
            .pool_idle_timeout(options.idle_timeout)
            .redirect(options.redirects())
            .referer(false)
            // The policy repeats; the environment does not decide where calls go.
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent(concat!("cqi/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::invalid_input("http client cannot be built").with_source(error))?;
        Ok(Self(Arc::new(Inner {
            http,
            base,
            options,
            policy,
        })))
    }

    /// A request with this method for `path` below the base URL. The path begins with `/` and is taken as it is: what
    /// comes from users has to be percent-encoded.
    pub fn request(&self, method: Method, path: &str) -> ClientRequest {
        ClientRequest::new(self.clone(), method, path)
    }

    /// A GET request; see [`HttpClient::request`].
    pub fn get(&self, path: &str) -> ClientRequest {
        self.request(Method::GET, path)
    }

    /// A POST request; see [`HttpClient::request`].
    pub fn post(&self, path: &str) -> ClientRequest {
        self.request(Method::POST, path)
    }

    /// A PUT request; see [`HttpClient::request`].
    pub fn put(&self, path: &str) -> ClientRequest {
        self.request(Method::PUT, path)
    }

    /// A DELETE request; see [`HttpClient::request`].
    pub fn delete(&self, path: &str) -> ClientRequest {
        self.request(Method::DELETE, path)
    }

    /// The URL of a path. It stays below the base URL, whatever the path says.
    fn url(&self, path: &str) -> Result<Url> {
        let wrong =
            || Error::invalid_input("http client: the path must begin with / and stay below the base URL");
        if !path.starts_with('/') {
            return Err(wrong());
        }
        let base = self.0.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}")).map_err(|_| wrong())?;
        let below = url
            .path()
            .strip_prefix(self.0.base.path().trim_end_matches('/'))
            .is_some_and(|rest| rest.starts_with('/'));
        if url.origin() == self.0.base.origin() && below {
            return Ok(url);
        }
        Err(wrong())
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("options", &self.0.options)
            .field("policy", &self.0.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_base_url() {
        let client = |base: &str| HttpClient::new(HttpClientOptions::new(base), Policy::default()).unwrap();
        let url = |base: &str, path: &str| client(base).url(path).map(String::from);
        assert_eq!(url("http://a:81/v1/", "/x?y=1").unwrap(), "http://a:81/v1/x?y=1");
        assert_eq!(url("http://a", "/").unwrap(), "http://a/");
        assert_eq!(
            url("http://a", "//b/c").unwrap(),
            "http://a//b/c",
            "no other host"
        );
        for bad in [
            "x",
            "",
            "@b/",
            ":82/",
            "http://b/",
            "/../x",
            "/%2e%2e/x",
            "/a/../../x",
        ] {
            let error = url("http://a/v1", bad).unwrap_err();
            assert!(error.is_invalid_input(), "{bad}");
        }
    }
}
