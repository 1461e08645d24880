//! The verifier port: a credential in, a caller out.

use std::fmt;

use async_trait::async_trait;

use super::AuthContext;
use crate::{Result, secret::Secret};

/// Verifies a credential: an API key, a token. One verifier serves HTTP, gRPC and events.
///
/// # Behaviour
/// - Every refusal is `Unauthorized` with the same message, whatever was wrong; the reason goes to the log only.
/// - A verifier that cannot decide (its key server is down) answers `Temporary`, never a caller.
#[async_trait]
pub trait Verifier: fmt::Debug + Send + Sync + 'static {
    /// Verifies the credential as it stood after `Bearer `.
    async fn verify(&self, credential: &Secret) -> Result<AuthContext>;
}

const _: fn(&dyn Verifier) = |_| ();
