//! Who calls, and whether it may.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Code, Error, Result,
    auth::{AuthContext, Verifier, bearer, refused},
};
use http::{HeaderMap, header::AUTHORIZATION};
use tokio::time::timeout;

use super::services::Method;

/// How callers prove who they are (ML-GRPC-8). All services are closed but those named in `open` (G-12).
///
/// ```
/// # use std::sync::Arc;
/// # use cqi_core::auth::{ApiKeys, Requirement};
/// # use cqi_grpc::{GrpcAuth, GrpcOptions, GrpcServer};
/// # fn run() -> cqi_core::Result<()> {
/// let keys = ApiKeys::parse(["billing:3f1b0c2e9a7d4865".into()])?;
/// let server = GrpcServer::new("grpc", GrpcOptions::default())?.auth(GrpcAuth::verifier(Arc::new(keys)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GrpcAuth {
    /// What verifies the metadata `authorization: Bearer …`. With none, only client certificates count.
    pub verifier: Option<Arc<dyn Verifier>>,
    /// Whether a client certificate proves who calls, on calls without a credential. It needs
    /// [`TlsOptions::client_ca`](cqi_core::tls::TlsOptions::client_ca). Default false.
    pub client_certificates: bool,
    /// The services that everybody may call, by full name. Default: health and reflection.
    pub open: Vec<String>,
    /// How long the verifier may take; then the answer is UNAVAILABLE. Default 5 s.
    pub timeout: Duration,
}

impl Default for GrpcAuth {
    fn default() -> Self {
        let open = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ];
        Self {
            verifier: None,
            client_certificates: false,
            open: open.map(str::to_owned).to_vec(),
            timeout: Duration::from_secs(5),
        }
    }
}

impl GrpcAuth {
    /// Callers show what `verifier` accepts.
    pub fn verifier(verifier: Arc<dyn Verifier>) -> Self {
        Self {
            verifier: Some(verifier),
            ..Self::default()
        }
    }

    /// Callers show a certificate.
    pub fn client_certificates() -> Self {
        Self {
            client_certificates: true,
            ..Self::default()
        }
    }

    /// The caller, who may call `method`.
    async fn caller(
        &self,
        headers: &HeaderMap,
        certified: Option<&Arc<AuthContext>>,
    ) -> Result<Arc<AuthContext>> {
        let given = headers.get_all(AUTHORIZATION);
        let mut given = given.iter();
        let header = given.next();
        if header.is_none() && self.client_certificates {
            return certified.cloned().ok_or_else(refused);
        }
        // Which one of several would count?
        if given.next().is_some() {
            return Err(refused());
        }
        let credential = bearer(header.and_then(|header| header.to_str().ok()))?;
        let verifier = self.verifier.as_ref().ok_or_else(refused)?;
        match timeout(self.timeout, verifier.verify(&credential)).await {
            Ok(Ok(caller)) => Ok(Arc::new(caller)),
            Ok(Err(error)) if error.is_unauthorized() => {
                tracing::debug!(error = %error.chain(), "credential refused");
                Err(refused())
            }
            Ok(Err(error)) => Err(undecided(&error)),
            Err(_elapsed) => Err(undecided(&Error::timeout(self.timeout))),
        }
    }
}

/// Who cannot decide never allows (A-26).
fn undecided(error: &Error) -> Error {
    tracing::warn!(error = %error.chain(), "credentials cannot be verified");
    Error::temporary("credentials cannot be verified now").with_code(Code::Unavailable)
}

/// Lets a call pass or refuses it. Gives the caller, if it is known.
pub(super) async fn admit(
    auth: Option<&GrpcAuth>,
    method: &Method,
    headers: &HeaderMap,
    certified: Option<&Arc<AuthContext>>,
) -> Result<Option<Arc<AuthContext>>> {
    let open = |auth: &GrpcAuth| auth.open.iter().any(|open| open == method.service());
    let caller = match auth {
        Some(auth) if !method.requirements.is_empty() || !open(auth) => {
            Some(auth.caller(headers, certified).await?)
        }
        _ => None,
    };
    for requirement in &method.requirements {
        requirement.check(caller.as_ref().ok_or_else(refused)?)?;
    }
    Ok(caller)
}
