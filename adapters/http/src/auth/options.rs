//! What may pass without a credential, and how often one may be wrong.

use std::time::Duration;

use crate::probes::PATHS;

/// How a server authenticates its callers, beside the verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthOptions {
    /// Paths that are served to everybody (ML-AUTH-4). A request's path is compared as it came, byte by byte, so no way
    /// to write another path opens it. Default: the probes, `/health`, `/health/live`, `/health/ready`,
    /// `/health/startup`.
    pub open_paths: Vec<String>,
    /// Whether a client certificate that the handshake has verified counts as a credential, for requests without any
    /// other. Needs `client_ca` in the options of TLS. Default off.
    pub client_certificates: bool,
    /// How long the verifier may take; then the answer is 503. Default 5 s.
    pub timeout: Duration,
    /// How many wrong credentials a minute of one client are answered with 401; further ones get 429. The same number
    /// holds for one id of keys made as `ID.SECRET`, see [`Authenticator::new`](cqi_core::auth::Authenticator::new).
    /// Default 30; 0 means no limit.
    pub failed_logins: u32,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            open_paths: PATHS.map(str::to_owned).into(),
            client_certificates: false,
            timeout: Duration::from_secs(5),
            failed_logins: 30,
        }
    }
}

impl AuthOptions {
    /// The rules that are broken.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for path in &self.open_paths {
            if !is_plain(path) {
                faults.push(format!(
                    "auth.open_paths must be plain paths as /health/live, not {path:?}"
                ));
            }
        }
        if self.timeout.is_zero() {
            faults.push("auth.timeout must be above zero".to_owned());
        }
        faults
    }
}

/// Whether a path is normal: it is written in one way only, and stands for itself.
fn is_plain(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let segments_ok = segments
        .split('/')
        .all(|segment| !segment.is_empty() && segment != "." && segment != "..");
    path.bytes().all(allowed) && (segments.is_empty() || segments_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_auth_4_open_paths_are_plain() {
        assert!(AuthOptions::default().faults().is_empty());
        for good in ["/", "/health", "/.well-known/security.txt", "/a_b/~c-d"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [
            "", "health", "/a/", "//a", "/a/../b", "/a/./b", "/a%2fb", "/a?b", "/a#b", "/{id}", "/*", "/a b",
        ] {
            let options = AuthOptions {
                open_paths: vec![bad.to_owned()],
                ..AuthOptions::default()
            };
            assert_eq!(options.faults().len(), 1, "{bad}");
        }
    }
}
