use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations};
use crate::{Error, Result, secret::Secret};

/// Traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TracingConfig {
    /// Where finished spans are sent by OTLP: `host:port` or `http(s)://host:port` by gRPC, a URL with a path such as
    /// `http://host:4318/v1/traces` by HTTP; empty: nowhere. Default empty.
    pub endpoint: String,
    /// Headers of each request to the endpoint, such as the token of a hosted collector: `name=value`, the name in lower
    /// case. Default none.
    pub headers: Vec<Secret>,
    /// The share of new traces that are recorded: 0 none, 1 all. A trace that came in from outside keeps its caller's
    /// decision. Default 0.1.
    pub sample_rate: f64,
    /// The service's name in traces. Default empty: `service_name`.
    pub service_name: String,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: Vec::new(),
            sample_rate: 0.1,
            service_name: String::new(),
        }
    }
}

impl TracingConfig {
    /// The headers as names and values.
    ///
    /// # Errors
    /// `InvalidInput` when one is none; the error does not show it.
    pub fn named_headers(&self) -> Result<Vec<(String, Secret)>> {
        let named = |header: &Secret| {
            let (name, value) = named(header)
                .ok_or_else(|| Error::invalid_input(format!("each of tracing.headers {EXPECTED}")))?;
            Ok((name.to_owned(), value.into()))
        };
        self.headers.iter().map(named).collect()
    }
}

impl Validate for TracingConfig {
    fn validate(&self, violations: &mut Violations) {
        violations.range("sample_rate", self.sample_rate, 0.0..=1.0);
        for (i, header) in self.headers.iter().enumerate() {
            violations.rule(&format!("headers[{i}]"), named(header).is_some(), EXPECTED);
        }
    }
}

const EXPECTED: &str = "must be name=value, the name of [a-z0-9_.-] and not one of the protocol's own, the value of visible ASCII and blanks";

/// What the exporter and HTTP themselves say; sent once more, or otherwise, the endpoint would not understand a request.
const RESERVED: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Name and value of a header. A name that ends in `-bin` has binary values in gRPC, which no text is.
fn named(header: &Secret) -> Option<(&str, &str)> {
    let (name, value) = header.expose().split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    let valid = !name.is_empty()
        && name.bytes().all(is_name)
        && !name.ends_with("-bin")
        && !name.starts_with("grpc-")
        && !RESERVED.contains(&name)
        && !value.is_empty()
        && value.bytes().all(|b| (b' '..=b'~').contains(&b));
    valid.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &[&str]) -> TracingConfig {
        TracingConfig {
            headers: headers.iter().map(|header| Secret::new(*header)).collect(),
            ..TracingConfig::default()
        }
    }

    #[test]
    fn headers_are_read_at_their_first_equals_sign() {
        let config = with(&["authorization=Basic dTpw==", " x-team = a b "]);
        let expected = [("authorization", "Basic dTpw=="), ("x-team", "a b")];
        let expected = expected.map(|(name, value)| (name.to_owned(), Secret::new(value)));
        assert_eq!(config.named_headers().unwrap(), expected);
    }

    #[test]
    fn l_02_every_wrong_header_is_named_and_none_is_shown() {
        let bad = [
            "hunter2",
            "=hunter2",
            "A=hunter2",
            "a b=hunter2",
            "a-bin=hunter2",
            "a=",
            "a=hunter2\u{7f}",
            "content-type=hunter2",
            "grpc-timeout=hunter2",
        ];
        let config = with(&[&["fine=1"], &bad[..]].concat());
        let mut violations = Violations::default();
        config.validate(&mut violations);
        let keys: Vec<_> = violations.found().map(|(key, _)| key.to_owned()).collect();
        let expected: Vec<_> = (1..=bad.len()).map(|i| format!("headers[{i}]")).collect();
        assert_eq!(keys, expected);
        let shown = format!(
            "{config:?} {} {}",
            serde_json::to_string(&config).unwrap(),
            config.named_headers().unwrap_err().chain()
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
