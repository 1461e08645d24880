//! What stands between a server's layer and a verifier, the same for every protocol.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{AuthContext, Verifier, failures::Failures};
use crate::{Code, Error, Kind, Result, secret::Secret};

/// Asks a verifier who calls: under a deadline, not more often than a client may be wrong, and with answers that tell
/// nothing. Each server has one of its own.
#[derive(Debug)]
pub struct Authenticator {
    verifier: Arc<dyn Verifier>,
    timeout: Duration,
    failures: Failures,
}

impl Authenticator {
    /// `timeout` is how long the verifier may take. `failed_logins` is how many wrong credentials a minute of one client
    /// are answered as such, and how many different ones for one id, of one client and of all; 0 means no limit.
    ///
    /// The id of a credential is what stands before its dot, if it has exactly one. Over the limit for an id, a client is
    /// refused unasked; over its own limit, its right ones still pass. No client is kept out by what others did.
    pub fn new(verifier: Arc<dyn Verifier>, timeout: Duration, failed_logins: u32) -> Self {
        Self {
            verifier,
            timeout,
            failures: Failures::new(failed_logins),
        }
    }

    /// The caller behind a credential, as [`bearer`](super::bearer) reads it, that came from `address`. Cancel-safe: a call
    /// that is dropped counts as nothing.
    ///
    /// # Errors
    /// - `Unauthorized`, always the same, for a wrong credential, and for what is none.
    /// - `Unauthorized`/`PermissionDenied` for a caller that is known and may do nothing here.
    /// - `Temporary`/`RateLimited` with the time to wait in place of it when there were too many wrong ones.
    /// - `Temporary` with a time to wait when the verifier cannot decide, or not in time: never a caller.
    /// - `Permanent` when the verifier is broken.
    pub async fn authenticate(
        &self,
        address: IpAddr,
        credential: Result<Secret>,
    ) -> Result<(AuthContext, Secret)> {
        let Ok(credential) = credential else {
            return Err(self.failures.wrong(address, None));
        };
        self.failures.admit(address, &credential)?;
        let verified = timeout(self.timeout, self.verifier.verify(&credential)).await;
        let error = match verified.unwrap_or_else(|_| Err(Error::timeout(self.timeout))) {
            Ok(caller) => return Ok((caller, credential)),
            Err(error) => error,
        };
        Err(match error.kind() {
            Kind::Temporary => {
                let wait = error.retry_after().unwrap_or(Duration::from_secs(1));
                Error::temporary("the caller cannot be verified now")
                    .with_operation("auth.verify")
                    .with_source(error)
                    .with_retry_after(wait)
            }
            Kind::Permanent => error,
            _ if error.code() == Some(Code::PermissionDenied) => {
                Error::unauthorized("the caller may not do this").with_code(Code::PermissionDenied)
            }
            _ => {
                tracing::debug!(error = %error.chain(), "credential refused");
                self.failures.wrong(address, Some(&credential))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use async_trait::async_trait;

    use super::*;
    use crate::auth::{AuthType, refused};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[derive(Debug)]
    struct Fake;

    #[async_trait]
    impl Verifier for Fake {
        async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
            match credential.expose() {
                "right" => Ok(AuthContext::new(AuthType::ApiKey).with_user("ada")),
                "down" => Err(Error::temporary("10.0.0.1 is down").with_retry_after(Duration::from_secs(7))),
                "hang" => std::future::pending().await,
                "broken" => Err(Error::permanent("a bug")),
                "banned" => Err(Error::unauthorized("by rule 7").with_code(Code::PermissionDenied)),
                _ => Err(Error::unauthorized("expired at noon")),
            }
        }
    }

    fn authenticator(failed_logins: u32) -> Authenticator {
        Authenticator::new(Arc::new(Fake), Duration::from_secs(5), failed_logins)
    }

    #[tokio::test(start_paused = true)]
    async fn a_26_who_cannot_decide_lets_nobody_in() {
        let authenticator = authenticator(30);
        let ask = async |credential: &str| authenticator.authenticate(HERE, Ok(credential.into())).await;
        assert_eq!(ask("right").await.unwrap().0.user_id.as_deref(), Some("ada"));
        for (credential, wait) in [("down", 7), ("hang", 1)] {
            let error = ask(credential).await.unwrap_err();
            assert_eq!(error.message(), "the caller cannot be verified now");
            assert_eq!(
                (error.http_status(), error.retry_after()),
                (503, Some(Duration::from_secs(wait)))
            );
        }
        assert!(ask("broken").await.unwrap_err().is_permanent());
        let error = ask("banned").await.unwrap_err();
        assert_eq!(
            (error.message(), error.http_status()),
            ("the caller may not do this", 403)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_25_only_what_is_wrong_counts_and_right_ones_pass() {
        let authenticator = authenticator(2);
        let ask = async |credential: Result<Secret>| authenticator.authenticate(HERE, credential).await;
        for credential in ["right", "down", "banned", "right"] {
            drop(ask(Ok(credential.into())).await);
        }
        for credential in [Ok("wrong".into()), Err(refused())] {
            let error = ask(credential).await.unwrap_err();
            assert_eq!(error.to_string(), refused().to_string());
        }
        let error = ask(Ok("wrong".into())).await.unwrap_err();
        assert_eq!(
            (error.http_status(), error.retry_after()),
            (429, Some(Duration::from_secs(60)))
        );
        ask(Ok("right".into())).await.unwrap();
    }
}
