//! Several kinds of credentials side by side.

use std::sync::Arc;

use async_trait::async_trait;

use super::{AuthContext, Verifier, refused};
use crate::{Error, Result, secret::Secret};

/// Accepts what any of its verifiers accepts; they are asked in their order, so the quickest should come first. Without
/// any it accepts nobody.
///
/// When none accepts and one cannot decide, its error is the answer: the caller may come again.
#[derive(Debug, Clone, Default)]
pub struct AnyOf(Vec<Arc<dyn Verifier>>);

impl AnyOf {
    /// Accepts nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts what this verifier accepts, too.
    pub fn or(mut self, verifier: impl Verifier) -> Self {
        self.0.push(Arc::new(verifier));
        self
    }
}

#[async_trait]
impl Verifier for AnyOf {
    async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
        let mut undecided: Option<Error> = None;
        for verifier in &self.0 {
            match verifier.verify(credential).await {
                Ok(caller) => return Ok(caller),
                Err(error) if error.is_unauthorized() => {}
                Err(error) => undecided = undecided.or(Some(error)),
            }
        }
        Err(undecided.unwrap_or_else(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{ApiKeys, AuthType};

    #[derive(Debug)]
    struct Down;

    #[async_trait]
    impl Verifier for Down {
        async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
            match credential.expose() {
                "known" => Ok(AuthContext::new(AuthType::Jwt)),
                _ => Err(Error::temporary("the key server is down")),
            }
        }
    }

    #[tokio::test]
    async fn ml_auth_10_the_first_that_accepts_decides() {
        let keys = ApiKeys::parse(["billing:0123456789abcdef".into()]).unwrap();
        let any = AnyOf::new().or(Down).or(keys);
        let by = async |credential: &str| any.verify(&credential.into()).await;
        assert_eq!(by("known").await.unwrap().auth_type, AuthType::Jwt);
        assert_eq!(by("0123456789abcdef").await.unwrap().auth_type, AuthType::ApiKey);
        assert!(
            by("wrong").await.unwrap_err().is_temporary(),
            "a_26 who cannot decide never allows"
        );
    }

    #[tokio::test]
    async fn deny_by_default() {
        let error = AnyOf::new().verify(&"anything".into()).await.unwrap_err();
        assert!(error.is_unauthorized());
    }
}
