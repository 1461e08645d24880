use serde::{Deserialize, Serialize};

use super::super::{Validate, Violations};
use crate::secret::Secret;

/// Who may call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// Keys that are accepted, each at least 16 bytes; `name:key` gives the caller's service a name. Default none.
    pub api_keys: Vec<Secret>,
    /// The path of the PEM file with the public key that tokens are signed with. Default empty: no tokens.
    pub jwt_public_key: String,
    /// Who must have issued a token. Required with `jwt_public_key`.
    pub issuer: String,
    /// Whom a token must be meant for. Required with `jwt_public_key`.
    pub audience: String,
}

impl Validate for AuthConfig {
    fn validate(&self, violations: &mut Violations) {
        if !self.jwt_public_key.is_empty() {
            violations.required("issuer", &self.issuer);
            violations.required("audience", &self.audience);
        }
        let key = |entry: &str| entry.split_once(':').map_or(entry.len(), |(_, key)| key.len());
        let long = self.api_keys.iter().all(|entry| key(entry.expose()) >= 16);
        violations.rule("api_keys", long, "must have at least 16 bytes each");
    }
}
