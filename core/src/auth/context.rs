//! The identity of the caller, as layers establish it and handlers read it.

use std::{fmt, future::Future, sync::Arc};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// How the caller proved who it is.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthType {
    /// An API key.
    ApiKey,
    /// A JSON Web Token.
    Jwt,
    /// A client certificate.
    Mtls,
}

impl AuthType {
    /// The stable name: `API_KEY`, `JWT` or `MTLS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "API_KEY",
            Self::Jwt => "JWT",
            Self::Mtls => "MTLS",
        }
    }
}

/// The verified caller of a request (AUTH-1).
#[non_exhaustive]
#[derive(Clone, PartialEq)]
pub struct AuthContext {
    /// The user, when a person or account calls.
    pub user_id: Option<String>,
    /// The service, when a service calls.
    pub service_id: Option<String>,
    /// Who vouches for the identity: the issuer of a token. Two issuers may give the same id to different callers, so an
    /// identity is both together.
    pub issuer: Option<String>,
    /// How the caller proved it.
    pub auth_type: AuthType,
    /// Everything else the proof said.
    pub claims: Map<String, Value>,
}

impl AuthContext {
    /// A caller known by nothing but the way it proved itself.
    pub fn new(auth_type: AuthType) -> Self {
        Self {
            user_id: None,
            service_id: None,
            issuer: None,
            auth_type,
            claims: Map::new(),
        }
    }

    /// Sets the user.
    pub fn with_user(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = Some(user_id.into());
        self
    }

    /// Sets the service.
    pub fn with_service(mut self, service_id: impl Into<String>) -> Self {
        self.service_id = Some(service_id.into());
        self
    }

    /// Sets who vouches for it.
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets the claims.
    pub fn with_claims(mut self, claims: Map<String, Value>) -> Self {
        self.claims = claims;
        self
    }

    /// Whether the claim `roles`, a list of texts, has this one.
    pub fn has_role(&self, role: &str) -> bool {
        self.lists("roles", role)
    }

    /// Whether the claim `permissions`, a list of texts, or `scope`, words between spaces (RFC 8693), has this one.
    pub fn has_permission(&self, permission: &str) -> bool {
        let scope = self
            .claims
            .get("scope")
            .and_then(Value::as_str)
            .unwrap_or_default();
        self.lists("permissions", permission) || scope.split(' ').any(|word| word == permission)
    }

    fn lists(&self, claim: &str, wanted: &str) -> bool {
        let listed = self.claims.get(claim).and_then(Value::as_array);
        listed.is_some_and(|listed| listed.iter().any(|entry| entry == wanted))
    }
}

impl fmt::Debug for AuthContext {
    /// Shows the claims' names only: values may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthContext")
            .field("user_id", &self.user_id)
            .field("service_id", &self.service_id)
            .field("issuer", &self.issuer)
            .field("auth_type", &self.auth_type)
            .field("claims", &self.claims.keys().collect::<Vec<_>>())
            .finish()
    }
}

tokio::task_local! {
    static CURRENT: Arc<AuthContext>;
}

/// Runs `work` with `caller` as the current one, for code below the handler that takes no extractor (RS-1).
pub async fn with_auth_context<F: Future>(caller: Arc<AuthContext>, work: F) -> F::Output {
    CURRENT.scope(caller, work).await
}

/// Runs one step of a handler, such as one poll of its future, with `caller` as the current one.
pub fn in_auth_context<T>(caller: &Arc<AuthContext>, step: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(Arc::clone(caller), step)
}

/// The caller of the current request (AUTH-2).
///
/// # Errors
/// `Unauthorized` when no layer has established one.
pub fn current() -> Result<Arc<AuthContext>> {
    CURRENT
        .try_with(Arc::clone)
        .map_err(|_| Error::unauthorized("no authenticated caller"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn auth_2_the_caller_is_known_inside_its_scope_only() {
        let caller = Arc::new(AuthContext::new(AuthType::Jwt).with_user("ada"));
        let inside = with_auth_context(Arc::clone(&caller), async { current() }).await;
        assert_eq!(inside.unwrap(), caller);
        assert_eq!(in_auth_context(&caller, current).unwrap(), caller);
        assert!(current().unwrap_err().is_unauthorized());
    }

    #[test]
    fn debug_shows_no_claim_values() {
        let claims = Map::from_iter([("email".to_owned(), Value::from("canary"))]);
        let shown = format!("{:?}", AuthContext::new(AuthType::ApiKey).with_claims(claims));
        assert!(shown.contains("email") && !shown.contains("canary"));
    }
}
