//! Who may call, from configuration.

use std::sync::Arc;

#[cfg(feature = "jwt")]
use cqi_core::health::CheckOptions;
use cqi_core::{
    Result,
    auth::{AnyOf, ApiKeys, Verifier},
    config::{AuthConfig, Violations},
    health::Health,
    observe::Observer,
};

/// Checks that everything configured is compiled in.
pub(crate) fn check(config: &AuthConfig, violations: &mut Violations) {
    let known = cfg!(feature = "jwt") || !config.accepts_tokens();
    violations.rule(
        "auth.jwt_public_key",
        known,
        "must be empty, like all of auth.jwt_*: this program verifies no tokens; build with the feature `jwt`",
    );
}

/// What verifies credentials, if any are asked for. What it needs of others is registered with `health`.
pub(crate) async fn verifier(
    config: &AuthConfig,
    #[allow(unused_variables)] health: &Health, // keys are fetched for tokens only
    #[allow(unused_variables)] observer: &Arc<dyn Observer>, // likewise
) -> Result<Option<Arc<dyn Verifier>>> {
    if !config.is_required() {
        return Ok(None);
    }
    let mut any = AnyOf::new();
    if !config.api_keys.is_empty() {
        any = any.or(ApiKeys::parse(config.api_keys.iter().cloned())?);
    }
    #[cfg(feature = "jwt")]
    if config.accepts_tokens() {
        let tokens = tokens(config, observer).await?;
        // Tokens are verified for a while without new keys, so that operators only see it.
        let shown = CheckOptions {
            required: false,
            ready: false,
            ..CheckOptions::default()
        };
        health.register(Arc::new(tokens.checker()), shown)?;
        any = any.or(tokens);
    }
    Ok(Some(Arc::new(any)))
}

#[cfg(feature = "jwt")]
async fn tokens(config: &AuthConfig, observer: &Arc<dyn Observer>) -> Result<cqi_jwt::JwtVerifier> {
    use cqi_jwt::{JwtOptions, JwtVerifier, KeySource, PublicKey};

    let keys = if config.jwt_discovery {
        KeySource::Oidc
    } else if config.jwt_jwks_url.is_empty() {
        KeySource::Given(vec![PublicKey::read(&config.jwt_public_key).await?])
    } else {
        KeySource::Jwks(config.jwt_jwks_url.clone())
    };
    let options = JwtOptions::new(keys, &config.jwt_issuer, &config.jwt_audience);
    let mut options = options.with_observer(Arc::clone(observer));
    options.leeway = config.jwt_leeway;
    JwtVerifier::connect(options).await
}

#[cfg(test)]
mod tests {
    use cqi_core::observe::Silent;

    use super::*;

    fn silent() -> Arc<dyn Observer> {
        Arc::new(Silent)
    }

    #[tokio::test]
    async fn auth_4_configured_keys_are_asked_for_and_accepted() {
        let health = Health::new();
        assert!(
            verifier(&AuthConfig::default(), &health, &silent())
                .await
                .unwrap()
                .is_none()
        );
        let config = AuthConfig {
            api_keys: vec!["billing:0123456789abcdef".into(), "another-key-of-mine".into()],
            ..AuthConfig::default()
        };
        let verifier = verifier(&config, &health, &silent()).await.unwrap().unwrap();
        let caller = verifier.verify(&"0123456789abcdef".into()).await.unwrap();
        assert_eq!(caller.service_id.as_deref(), Some("billing"));
        assert!(
            verifier
                .verify(&"unknown".into())
                .await
                .unwrap_err()
                .is_unauthorized()
        );
    }

    #[cfg(feature = "jwt")]
    #[tokio::test]
    async fn a_key_file_that_is_not_there_is_named() {
        let config = AuthConfig {
            jwt_public_key: "missing.pem".into(),
            jwt_issuer: "issuer".into(),
            jwt_audience: "audience".into(),
            ..AuthConfig::default()
        };
        let error = verifier(&config, &Health::new(), &silent()).await.unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains("missing.pem"),
            "{error}"
        );
    }
}
