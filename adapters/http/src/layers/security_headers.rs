//! What browsers are told to be careful about.

use std::time::Duration;

use cqi_core::{Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers for browsers on every response (ML-HTTP-10). One that a handler has set itself stays. The defaults are for
/// services that answer with data; those that serve pages need another content security policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityHeaders {
    /// `X-Content-Type-Options: nosniff`. Default on.
    pub nosniff: bool,
    /// `X-Frame-Options`. Default `DENY`.
    pub frame_options: Option<String>,
    /// `Referrer-Policy`. Default `no-referrer`.
    pub referrer_policy: Option<String>,
    /// `Content-Security-Policy`. Default `default-src 'none'; frame-ancestors 'none'`.
    pub content_security_policy: Option<String>,
    /// How long browsers are to insist on TLS: `Strict-Transport-Security`, sent only by a server with TLS of its own.
    /// Default one year.
    pub strict_transport_security: Option<Duration>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self {
            nosniff: true,
            frame_options: Some("DENY".to_owned()),
            referrer_policy: Some("no-referrer".to_owned()),
            content_security_policy: Some("default-src 'none'; frame-ancestors 'none'".to_owned()),
            strict_transport_security: Some(Duration::from_secs(365 * 24 * 60 * 60)),
        }
    }
}

/// Checked options, as the headers they become.
#[derive(Debug, Default)]
pub(crate) struct Fixed(Box<[(HeaderName, HeaderValue)]>);

impl Fixed {
    /// # Errors
    /// `InvalidInput` naming a value that is none of a header.
    pub(crate) fn new(options: &SecurityHeaders, tls: bool) -> Result<Self> {
        let nosniff = options.nosniff.then(|| "nosniff".to_owned());
        let transport = options
            .strict_transport_security
            .filter(|_| tls)
            .map(|age| format!("max-age={}", age.as_secs()));
        let all = [
            (header::X_CONTENT_TYPE_OPTIONS, nosniff),
            (header::X_FRAME_OPTIONS, options.frame_options.clone()),
            (header::REFERRER_POLICY, options.referrer_policy.clone()),
            (
                header::CONTENT_SECURITY_POLICY,
                options.content_security_policy.clone(),
            ),
            (header::STRICT_TRANSPORT_SECURITY, transport),
        ];
        let set = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let headers = set.map(|(name, value)| match HeaderValue::try_from(value) {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Error::invalid_input(format!(
                "security headers: {name} must be visible ASCII"
            ))),
        });
        headers.collect::<Result<_>>().map(Self)
    }

    /// Adds what the handler has not set.
    pub(crate) fn complete(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_http_10_each_header_can_be_changed_and_switched_off() {
        let told = |options: &SecurityHeaders, tls| {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("origin"));
            Fixed::new(options, tls).unwrap().complete(&mut headers);
            headers
        };
        let headers = told(&SecurityHeaders::default(), true);
        assert_eq!(headers.len(), 5);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["referrer-policy"], "origin", "the handler's own stays");
        assert_eq!(headers["strict-transport-security"], "max-age=31536000");
        assert!(
            !told(&SecurityHeaders::default(), false).contains_key("strict-transport-security"),
            "without TLS nobody is sent to it"
        );
        let off = SecurityHeaders {
            nosniff: false,
            frame_options: None,
            referrer_policy: None,
            content_security_policy: None,
            strict_transport_security: None,
        };
        assert_eq!(told(&off, true).len(), 1);
        let bad = SecurityHeaders {
            frame_options: Some("a\nb".to_owned()),
            ..off
        };
        assert!(
            Fixed::new(&bad, true)
                .unwrap_err()
                .to_string()
                .contains("x-frame-options")
        );
    }
}
