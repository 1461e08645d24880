//! Who calls, and whether it may.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Code, Result,
    auth::{AnyOf, AuthContext, Authenticator, Verifier, bearer, refused},
    secret::Secret,
};
use http::{HeaderMap, header::AUTHORIZATION};

use super::{Peer, services::Method};

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
    /// How many wrong credentials a minute of one client, an IPv4 address or the /64 of an IPv6 one, are answered with
    /// UNAUTHENTICATED; further ones get RESOURCE_EXHAUSTED and the time to wait (A-25). The same number holds for one id
    /// of keys made as `ID.SECRET`, see [`Authenticator::new`]. Default 30; 0 means no limit.
    pub failed_logins: u32,
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
            failed_logins: 30,
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
}

/// Whom the doorkeeper let pass.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// Who calls, if it is known.
    pub(super) caller: Option<Arc<AuthContext>>,
    /// By what it was verified, if that was in the metadata.
    pub(super) credential: Option<Secret>,
}

/// The doorkeeper of a server.
#[derive(Debug)]
pub(super) struct Auth {
    options: Option<GrpcAuth>,
    authenticator: Authenticator,
}

impl Auth {
    pub(super) fn new(options: Option<GrpcAuth>) -> Self {
        let given = options.clone().unwrap_or_default();
        let verifier = given.verifier.unwrap_or_else(|| Arc::new(AnyOf::new()));
        Self {
            options,
            authenticator: Authenticator::new(verifier, given.timeout, given.failed_logins),
        }
    }

    /// Lets a call pass or refuses it. A method that is not there is closed, too.
    pub(super) async fn admit(
        &self,
        method: Option<&Method>,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Admitted> {
        let requirements = method.map_or(&[][..], |method| &method.requirements);
        let admitted = match &self.options {
            Some(options) if !requirements.is_empty() || !options.is_open(method) => {
                self.caller(options, headers, peer).await?
            }
            _ => Admitted::default(),
        };
        for requirement in requirements {
            requirement.check(admitted.caller.as_ref().ok_or_else(refused)?)?;
        }
        Ok(admitted)
    }

    async fn caller(&self, options: &GrpcAuth, headers: &HeaderMap, peer: &Peer) -> Result<Admitted> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = given.next() else {
            let certified = peer.identity.as_ref().filter(|_| options.client_certificates);
            return Ok(Admitted {
                caller: Some(Arc::clone(certified.ok_or_else(refused)?)),
                credential: None,
            });
        };
        // Which one of several would count?
        let one = given.next().is_none().then_some(header);
        let credential = bearer(one.and_then(|header| header.to_str().ok()));
        let admitted = self
            .authenticator
            .authenticate(peer.remote.ip(), credential)
            .await;
        let (caller, credential) = admitted.inspect_err(|error| {
            if error.code() != Some(Code::RateLimited) && !error.is_unauthorized() {
                tracing::warn!(error = %error.chain(), "credentials cannot be verified");
            }
        })?;
        Ok(Admitted {
            caller: Some(Arc::new(caller)),
            credential: Some(credential),
        })
    }
}

impl GrpcAuth {
    fn is_open(&self, method: Option<&Method>) -> bool {
        method.is_some_and(|method| self.open.iter().any(|open| open == method.service()))
    }
}
