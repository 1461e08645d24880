//! Who published an event, proved by the credential it brings (AUTH-11).

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::from_fn::middleware;
use crate::{
    Error, Result,
    auth::{Requirement, Verifier, bearer, with_auth_context},
    event::{Message, Next, header},
};

/// How long the verifier may take; the event is redelivered then.
const LIMIT: Duration = Duration::from_secs(5);

/// Handles only events whose header `authorization` holds a credential that the verifier accepts and whose caller may do
/// this. What is inside finds the caller by [`current`](crate::auth::current), and no longer the header.
///
/// An event without a valid credential, or of a caller who may not, is `Unauthorized`: it goes to its dead-letter topic at
/// once, without the credential. When the verifier cannot tell just now (`Temporary`), or not
/// within 5 seconds, the event is redelivered.
///
/// Publishers attach the credential by [`Event::with_credential`](crate::event::Event::with_credential).
///
/// ```
/// # use std::sync::Arc;
/// use cqi_core::{auth::{ApiKeys, Requirement}, event::{Router, middleware::Authenticate}};
///
/// # fn main() -> cqi_core::Result<()> {
/// let keys = ApiKeys::parse(["billing:3f1b0c2e9a7d4865".into()])?;
/// let router = Router::new().layer(Authenticate::new(Arc::new(keys)));
/// # let _ = router; Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Authenticate {
    verifier: Arc<dyn Verifier>,
    requirement: Arc<Requirement>,
}

impl Authenticate {
    /// Lets every caller pass that the verifier knows.
    pub fn new(verifier: Arc<dyn Verifier>) -> Self {
        Self {
            verifier,
            requirement: Arc::default(),
        }
    }

    /// Lets only callers pass that meet this.
    pub fn requiring(mut self, requirement: Requirement) -> Self {
        self.requirement = Arc::new(requirement);
        self
    }

    async fn run(self, mut message: Message, next: Next) -> Result<()> {
        let stated = |error: Error| error.with_operation("event_bus.authenticate");
        let credential = bearer(message.event.headers().get(header::AUTHORIZATION)).map_err(stated)?;
        let verified = timeout(LIMIT, self.verifier.verify(&credential)).await;
        let caller = verified
            .unwrap_or_else(|_| Err(Error::timeout(LIMIT)))
            .map_err(stated)?;
        self.requirement.check(&caller).map_err(stated)?;
        message.event = message.event.without_header(header::AUTHORIZATION);
        // Inside a block, so that what a handler does before its first await finds the caller too.
        with_auth_context(Arc::new(caller), async move { next.run(message).await }).await
    }
}

middleware!(Authenticate);

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::{Map, json};
    use tower::{Layer as _, ServiceExt as _};

    use super::*;
    use crate::{
        Code,
        auth::{AuthContext, AuthType, current, refused},
        event::{Event, Route},
        name::{Group, topic_name},
        secret::Secret,
    };

    /// Knows `ada`, who may read, and cannot tell who `later` is.
    #[derive(Debug)]
    struct Known;

    #[async_trait]
    impl Verifier for Known {
        async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
            let claims = Map::from_iter([("scope".to_owned(), json!("read"))]);
            match credential.expose() {
                "ada" => Ok(AuthContext::new(AuthType::Jwt)
                    .with_user("ada")
                    .with_claims(claims)),
                "never" => std::future::pending().await,
                "later" => Err(Error::temporary("the key server is down")),
                _ => Err(refused()),
            }
        }
    }

    /// Sends a message with this header through the layer to a handler that wants to know the caller.
    async fn handle(layer: &Authenticate, header: Option<&str>) -> Result<()> {
        let handler = Route::from_fn(|message: Message| {
            let caller = current();
            async move {
                assert_eq!(caller?.user_id.as_deref(), Some("ada"));
                assert!(message.event.headers().get("authorization").is_none());
                assert_eq!(current()?.user_id.as_deref(), Some("ada"));
                Ok(())
            }
        });
        let mut event = Event::builder(topic_name("asset_created").unwrap());
        if let Some(header) = header {
            event = event.header("Authorization", header);
        }
        let message = Message::new(event.build().unwrap(), 1, Group::parse("g").unwrap());
        layer.layer(handler).oneshot(message).await
    }

    #[tokio::test]
    async fn auth_11_the_caller_of_an_event_is_known_to_its_handler() {
        let layer = Authenticate::new(Arc::new(Known));
        handle(&layer, Some("Bearer ada")).await.unwrap();
        assert!(current().is_err());
    }

    #[tokio::test]
    async fn auth_7_an_event_without_a_valid_credential_is_refused_alike() {
        let layer = Authenticate::new(Arc::new(Known));
        for bad in [
            None,
            Some("ada"),
            Some("Basic ada"),
            Some("Bearer "),
            Some("Bearer mallory"),
        ] {
            let error = handle(&layer, bad).await.unwrap_err();
            assert!(
                error.is_unauthorized() && error.message() == refused().message(),
                "{bad:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_26_an_event_is_undecided_when_the_verifier_is() {
        let layer = Authenticate::new(Arc::new(Known));
        for undecided in ["Bearer later", "Bearer never"] {
            assert!(
                handle(&layer, Some(undecided)).await.unwrap_err().is_temporary(),
                "{undecided}"
            );
        }
    }

    #[tokio::test]
    async fn p_auth_2_a_caller_who_may_not_is_refused() {
        let layer = |wanted| Authenticate::new(Arc::new(Known)).requiring(Requirement::permission(wanted));
        handle(&layer("read"), Some("Bearer ada")).await.unwrap();
        let error = handle(&layer("write"), Some("Bearer ada")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::PermissionDenied));
    }
}
