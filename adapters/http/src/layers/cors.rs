//! Cross-origin requests of browsers.

use std::time::Duration;

use axum::response::Response;
use cqi_core::{Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

/// Which other origins' pages may call, and what they may use (ML-HTTP-9). An origin that is not allowed gets no CORS
/// headers, so the browser keeps the answer from the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsOptions {
    /// Origins as `https://example.com`, compared as a whole, or `*` alone for every one. Default none.
    pub origins: Vec<String>,
    /// Default `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub methods: Vec<String>,
    /// Request headers that pages may set. Default `authorization`, `content-type`, `x-request-id`, `traceparent`,
    /// `tracestate`.
    pub headers: Vec<String>,
    /// Response headers that pages may read besides the usual. Default `x-request-id`, `retry-after`.
    pub expose: Vec<String>,
    /// Whether browsers send cookies and client certificates along. Not with the origin `*`. Default off.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight request. Default 10 minutes.
    pub max_age: Duration,
}

impl Default for CorsOptions {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            origins: Vec::new(),
            methods: owned(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
            headers: owned(&[
                "authorization",
                "content-type",
                "x-request-id",
                "traceparent",
                "tracestate",
            ]),
            expose: owned(&["x-request-id", "retry-after"]),
            credentials: false,
            max_age: Duration::from_secs(600),
        }
    }
}

/// Checked options, as the headers they become.
#[derive(Debug)]
pub(crate) struct Cors {
    /// Empty stands for every origin.
    origins: Box<[HeaderValue]>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

impl Cors {
    /// # Errors
    /// `InvalidInput` listing every rule that is broken (H-21).
    pub(crate) fn new(options: &CorsOptions) -> Result<Self> {
        let mut faults = Vec::new();
        let any = options.origins.iter().any(|origin| origin == "*");
        if any && options.origins.len() > 1 {
            faults.push("the origin * must stand alone");
        }
        if any && options.credentials {
            faults.push("the origin * must not go with credentials");
        }
        if !any && !options.origins.iter().all(|origin| is_origin(origin)) {
            faults.push("origins must be as https://example.com or http://localhost:3000, in lower case");
        }
        if options.origins.is_empty() {
            faults.push("origins must not be empty");
        }
        if options.methods.is_empty() || !options.methods.iter().all(|name| is_method(name)) {
            faults.push("methods must be HTTP methods");
        }
        let mut names = options.headers.iter().chain(&options.expose);
        if !names.all(|name| HeaderName::try_from(name.as_str()).is_ok() && name != "*") {
            faults.push("headers and expose must be names of headers");
        }
        let value = |text: &str| HeaderValue::try_from(text);
        let list = |names: &[String]| (!names.is_empty()).then(|| value(&names.join(", "))).transpose();
        let origins = if any { &[] } else { options.origins.as_slice() };
        let made = || -> std::result::Result<Self, header::InvalidHeaderValue> {
            Ok(Self {
                origins: origins
                    .iter()
                    .map(|origin| value(origin))
                    .collect::<std::result::Result<_, _>>()?,
                methods: value(&options.methods.join(", "))?,
                headers: list(&options.headers)?,
                expose: list(&options.expose)?,
                credentials: options.credentials,
                max_age: HeaderValue::from(options.max_age.as_secs()),
            })
        };
        match made() {
            Ok(cors) if faults.is_empty() => Ok(cors),
            _ => Err(Error::invalid_input(format!("cors: {}", faults.join("; ")))),
        }
    }

    /// The answer to a preflight request; `None` when it is none. It needs no credential: browsers send none.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response> {
        let headers = request.headers();
        let asks = *request.method() == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks {
            return None;
        }
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        if self.allowed(headers.get(header::ORIGIN)).is_some() {
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            if let Some(headers) = &self.headers {
                answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
            }
        }
        Some(response)
    }

    /// What the origin of a request is told, to be added to the response.
    pub(crate) fn complete(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if !self.origins.is_empty() {
            // The answer depends on the origin, also that to none.
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = self.allowed(origin) else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        if self.origins.is_empty() {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().find(|allowed| *allowed == origin).cloned()
    }
}

/// Scheme, host and perhaps port, as browsers write them; so neither `null` nor a pattern nor a path.
fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]_".contains(&b))
    })
}

fn is_method(name: &str) -> bool {
    name != "*" && Method::from_bytes(name.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(change: impl FnOnce(&mut CorsOptions)) -> Result<Cors> {
        let mut options = CorsOptions {
            origins: vec![
                "https://example.com".to_owned(),
                "http://localhost:3000".to_owned(),
            ],
            ..CorsOptions::default()
        };
        change(&mut options);
        Cors::new(&options)
    }

    fn told(cors: &Cors, origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        cors.complete(Some(&HeaderValue::from_static(origin)), &mut headers);
        headers
    }

    #[test]
    fn h_21_only_the_very_origin_is_allowed() {
        let cors = cors(|options| options.credentials = true).unwrap();
        let headers = told(&cors, "https://example.com");
        assert_eq!(headers["access-control-allow-origin"], "https://example.com");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["vary"], "origin");
        for other in [
            "null",
            "https://evil-example.com",
            "https://example.com.evil.org",
            "http://example.com",
            "https://example.com:8443",
            "https://a.example.com",
            "",
            "*",
        ] {
            let headers = told(&cors, other);
            let names: Vec<_> = headers.keys().collect();
            assert_eq!(names, [header::VARY], "{other}");
        }
    }

    #[test]
    fn h_21_ml_http_9_unsafe_and_malformed_options_are_refused() {
        let any = |options: &mut CorsOptions| options.origins = vec!["*".to_owned()];
        assert_eq!(
            told(&cors(any).unwrap(), "https://a.org")["access-control-allow-origin"],
            "*"
        );
        let text = cors(|options| {
            any(options);
            options.credentials = true;
        })
        .unwrap_err()
        .to_string();
        assert_eq!(text, "cors: the origin * must not go with credentials");
        for origin in [
            "null",
            "https://*.example.com",
            "example.com",
            "https://example.com/",
            "https://",
            "https://A.org",
        ] {
            let error = cors(|options| options.origins = vec![origin.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("origins must be"), "{origin}: {error}");
        }
        assert!(cors(|options| options.origins.push("*".to_owned())).is_err());
        assert!(cors(|options| options.origins.clear()).is_err());
        assert!(cors(|options| options.methods = vec!["*".to_owned()]).is_err());
        assert!(cors(|options| options.headers = vec!["a b".to_owned()]).is_err());
        assert!(cors(|options| options.expose = vec!["a\r\nb".to_owned()]).is_err());
    }

    #[test]
    fn ml_http_9_a_preflight_tells_the_allowed_only() {
        let cors = cors(|_| {}).unwrap();
        let ask = |origin: &str, method: Method| {
            let request = Request::builder()
                .method(method)
                .header("origin", origin)
                .header("access-control-request-method", "PUT")
                .body(())
                .unwrap();
            cors.preflight(&request)
        };
        let answer = ask("https://example.com", Method::OPTIONS).unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()["access-control-max-age"], "600");
        assert!(
            answer.headers()["access-control-allow-methods"]
                .to_str()
                .unwrap()
                .contains("PUT")
        );
        assert!(
            ask("https://evil.org", Method::OPTIONS)
                .unwrap()
                .headers()
                .is_empty()
        );
        assert!(ask("https://example.com", Method::GET).is_none());
        let plain = Request::builder().method(Method::OPTIONS).body(()).unwrap();
        assert!(
            cors.preflight(&plain).is_none(),
            "a plain OPTIONS is for the router"
        );
    }
}
