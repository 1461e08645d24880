//! The caller, for handlers.

use std::{convert::Infallible, ops::Deref, sync::Arc};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use cqi_core::auth::{AuthContext, refused};
use http::request::Parts;

use crate::HttpError;

/// The verified caller (AUTH-6). Refuses with 401 where no layer has established one; `Option<Caller>` gives `None`
/// there.
///
/// ```
/// use cqi_http::Caller;
///
/// async fn whoami(caller: Caller) -> String {
///     caller.user_id.clone().unwrap_or_default()
/// }
/// ```
///
/// Code below the handler asks [`cqi_core::auth::current`].
#[derive(Debug, Clone, PartialEq)]
pub struct Caller(pub Arc<AuthContext>);

impl Deref for Caller {
    type Target = AuthContext;

    fn deref(&self) -> &AuthContext {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let caller = parts.extensions.get::<Arc<AuthContext>>();
        caller
            .map(|caller| Self(Arc::clone(caller)))
            .ok_or_else(|| refused().into())
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        let caller = parts.extensions.get::<Arc<AuthContext>>();
        Ok(caller.map(|caller| Self(Arc::clone(caller))))
    }
}
