//! URLs of stores and brokers, which may hold a password.

use std::{borrow::Cow, fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::{REDACTED, Secret};

/// The address of a store or broker, for example `postgres://app:password@db:5432/positions`. Empty means not given.
///
/// `Debug`, `Display` and `Serialize` hide user and password, and the query where it may hold a secret.
///
/// ```
/// use cqi_core::config::ConnectionUrl;
///
/// let url = ConnectionUrl::from("postgres://app:hunter2@db/positions");
/// assert_eq!(url.to_string(), "postgres://***@db/positions");
/// assert_eq!(url.scheme(), Some("postgres"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectionUrl(Secret);

impl ConnectionUrl {
    /// The whole URL, secrets included. Never log it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether no URL is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands before `://`, if that is a scheme. `sqlite:` may stand without the slashes, as in `sqlite::memory:`.
    pub fn scheme(&self) -> Option<&str> {
        let url = self.expose();
        let (scheme, _) = url
            .split_once("://")
            .or_else(|| url.split_once(':').filter(|(s, _)| *s == "sqlite"))?;
        let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        valid.then_some(scheme)
    }

    /// The URL with its secrets hidden. What stands before the last `@` goes, so that a password with a `/` or `@`
    /// in it is hidden too.
    fn redacted(&self) -> Cow<'_, str> {
        let url = self.expose();
        let mut shown = Cow::Borrowed(url);
        if let Some(at) = url.rfind('@') {
            let start = url.find("://").map_or(0, |i| i + 3).min(at);
            shown = Cow::Owned(format!("{}{REDACTED}{}", &url[..start], &url[at..]));
        }
        if let Some(query) = shown.find('?')
            && is_telling(&shown[query..])
        {
            shown = Cow::Owned(format!("{}?{REDACTED}", &shown[..query]));
        }
        shown
    }
}

/// Whether a query may hold a secret. An escaped name cannot be told from one, so it counts.
fn is_telling(query: &str) -> bool {
    let query = query.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "key", "cred", "%"]
        .iter()
        .any(|word| query.contains(word))
}

impl From<&str> for ConnectionUrl {
    fn from(url: &str) -> Self {
        Self(Secret::new(url))
    }
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.redacted(), f)
    }
}

impl Serialize for ConnectionUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

impl<'de> Deserialize<'de> for ConnectionUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer).map(Self)
    }
}

/// Whether traffic to this host stays on this machine: `localhost`, or a loopback address, in brackets or not (C-13).
///
/// ```
/// use cqi_core::config::is_loopback;
/// assert!(is_loopback("localhost") && is_loopback("127.0.0.7") && is_loopback("[::1]"));
/// assert!(!is_loopback("db.example.org") && !is_loopback("10.0.0.1") && !is_loopback(""));
/// ```
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_11_a_url_shows_no_secret() {
        for (url, shown) in [
            ("memory://", "memory://"),
            ("sqlite://positions.db?mode=rwc", "sqlite://positions.db?mode=rwc"),
            ("postgres://app:CANARY@db/x", "postgres://***@db/x"),
            ("postgres://app:CAN/ARY@CANARY@db/x", "postgres://***@db/x"),
            ("nats://CANARY@broker:4222", "nats://***@broker:4222"),
            ("nats://a:CANARY@b,nats://a:CANARY@c", "nats://***@c"),
            ("app:CANARY@db", "***@db"),
            ("postgres://db/x?password=CANARY", "postgres://db/x?***"),
            ("postgres://db/x?pass%77ord=CANARY", "postgres://db/x?***"),
        ] {
            let url = ConnectionUrl::from(url);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}{}", serde_json::to_string(&url).unwrap()).contains("CANARY"));
        }
    }

    #[test]
    fn the_scheme_is_what_stands_before_the_slashes() {
        assert_eq!(ConnectionUrl::from("kafka://a").scheme(), Some("kafka"));
        assert_eq!(ConnectionUrl::from("localhost:9092").scheme(), None);
        assert_eq!(ConnectionUrl::from("").scheme(), None);
        assert_eq!(ConnectionUrl::from("a b://c").scheme(), None);
    }
}
