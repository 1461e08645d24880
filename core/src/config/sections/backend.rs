//! Which backend stands behind a port: named by `backend`, or by the URL's scheme.

use super::super::{ConnectionUrl, Violations};

/// The backend's own name for a scheme or an alias.
fn plain(name: &str) -> &str {
    match name {
        "postgresql" => "postgres",
        "jetstream" | "tls" => "nats",
        "rediss" => "redis",
        "local" => "memory",
        other => other,
    }
}

/// The backend: `backend` where given, else the URL's scheme, else `embedded`.
pub(super) fn chosen<'a>(backend: &'a str, url: &'a ConnectionUrl, embedded: &'a str) -> &'a str {
    match (backend, url.scheme()) {
        ("", Some(scheme)) => plain(scheme),
        ("", None) => embedded,
        (name, _) => plain(name),
    }
}

/// The URL must have a scheme, and it must be the backend's.
pub(super) fn check(backend: &str, url: &ConnectionUrl, violations: &mut Violations) {
    if url.is_empty() {
        return;
    }
    match url.scheme() {
        None => violations.add("url", "must begin with a scheme, such as `memory://`"),
        Some(scheme) if !backend.is_empty() && plain(scheme) != plain(backend) => {
            violations.add("url", format!("must fit backend `{backend}`"));
        }
        Some(_) => {}
    }
}
