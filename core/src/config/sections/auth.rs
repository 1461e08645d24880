use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations, duration};
use crate::{auth::ApiKeys, secret::Secret};

/// Who may call. As soon as keys or a way to verify tokens are given, or `server.tls_client_ca`, every request over HTTP
/// and gRPC needs a credential or a client's certificate, but those to health checks, gRPC reflection and `open_paths`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// Keys that are accepted, each at least 16 bytes; `name:key` gives the caller's service a name. Default none.
    pub api_keys: Vec<Secret>,
    /// The path of the PEM file with the public key that tokens are signed with. Default empty.
    pub jwt_public_key: String,
    /// Where the keys are published that tokens are signed with, a JWKS, instead of `jwt_public_key`. Default empty.
    pub jwt_jwks_url: String,
    /// Whether the address of the keys is asked of `jwt_issuer` (OpenID Connect discovery), instead of
    /// `jwt_public_key` and `jwt_jwks_url`. Default false.
    pub jwt_discovery: bool,
    /// Who must have issued a token. Required for tokens.
    pub jwt_issuer: String,
    /// Whom a token must be meant for. Required for tokens.
    pub jwt_audience: String,
    /// By how much clocks may differ. Default 60 s, at most 5 min.
    #[serde(with = "duration")]
    pub jwt_leeway: Duration,
    /// HTTP paths that need no credential, besides those of health checks; each matches exactly. Default none.
    pub open_paths: Vec<String>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            jwt_public_key: String::new(),
            jwt_jwks_url: String::new(),
            jwt_discovery: false,
            jwt_issuer: String::new(),
            jwt_audience: String::new(),
            jwt_leeway: Duration::from_secs(60),
            open_paths: Vec::new(),
        }
    }
}

impl AuthConfig {
    /// Whether tokens are accepted.
    pub fn accepts_tokens(&self) -> bool {
        self.jwt_discovery || !self.jwt_public_key.is_empty() || !self.jwt_jwks_url.is_empty()
    }

    /// Whether callers must prove who they are.
    pub fn is_required(&self) -> bool {
        self.accepts_tokens() || !self.api_keys.is_empty()
    }
}

impl Validate for AuthConfig {
    fn validate(&self, violations: &mut Violations) {
        if self.accepts_tokens() {
            violations.required("jwt_issuer", &self.jwt_issuer);
            violations.required("jwt_audience", &self.jwt_audience);
        }
        let sources = [
            self.jwt_discovery,
            !self.jwt_public_key.is_empty(),
            !self.jwt_jwks_url.is_empty(),
        ];
        let one = sources.iter().filter(|given| **given).count() <= 1;
        violations.rule(
            "jwt_public_key",
            one,
            "must be the only one of jwt_public_key, jwt_jwks_url and jwt_discovery",
        );
        violations.max_duration("jwt_leeway", self.jwt_leeway);
        let leeway = self.jwt_leeway <= Duration::from_secs(300);
        violations.rule("jwt_leeway", leeway, "must be at most 5m");
        if let Err(error) = ApiKeys::parse(self.api_keys.iter().cloned()) {
            violations.add("api_keys", error.message());
        }
        let absolute = self.open_paths.iter().all(|path| path.starts_with('/'));
        violations.rule("open_paths", absolute, "must begin with /");
    }
}
