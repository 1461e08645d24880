//! Who is calling.

mod context;
mod verifier;

pub use self::{
    context::{AuthContext, AuthType, current, with_auth_context},
    verifier::Verifier,
};
