//! Who is calling, and what it may do.
//!
//! A [`Verifier`] turns a credential into an [`AuthContext`]; the layers of HTTP, gRPC and events ask it and make the
//! caller known to handlers. Everything is denied that was not allowed.

mod any_of;
mod api_keys;
mod authenticator;
mod bearer;
mod breaker;
mod context;
mod failures;
mod requirement;
mod verifier;

pub use self::{
    any_of::AnyOf,
    api_keys::ApiKeys,
    authenticator::Authenticator,
    bearer::{MAX_CREDENTIAL, bearer},
    breaker::{Breaker, BreakerOptions},
    context::{AuthContext, AuthType, current, in_auth_context, with_auth_context},
    requirement::Requirement,
    verifier::Verifier,
};
use crate::Error;

/// The one answer to every missing, malformed or wrong credential (AUTH-7): it does not say what was wrong.
pub fn refused() -> Error {
    Error::unauthorized("credentials are missing or invalid")
}
