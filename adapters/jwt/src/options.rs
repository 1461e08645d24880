//! How tokens are checked.

use std::{fmt, sync::Arc, time::Duration};

use cqi_core::{
    Error, Result,
    observe::{Observer, Silent},
};
use jsonwebtoken::AlgorithmFamily;
use serde_json::{Map, Value};

use crate::{Algorithm, PublicKey};

/// The longest leeway that is accepted: more is a wrong clock, not a skewed one.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Where the public keys come from.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum KeySource {
    /// These keys. They change with a restart. At most 4 may be without an id.
    Given(Vec<PublicKey>),
    /// The JSON Web Key Set at this URL, renewed as [`JwksOptions`] says.
    Jwks(String),
    /// The set that the issuer names in its OpenID configuration, which must be its own; the issuer is a URL. The
    /// configuration is read at the start, the keys are renewed as [`JwksOptions`] says.
    Oidc,
}

/// How published keys are fetched and kept. Everything goes over `https`; `http` is for this machine only. No redirect is
/// followed, no proxy is used, and no more than 256 KiB of JSON with at most 64 keys are read.
#[allow(clippy::exhaustive_structs)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksOptions {
    /// How often the keys are renewed; a key that was taken back is refused after this time at the latest. Default 5 min.
    pub refresh: Duration,
    /// How long keys are used while they cannot be renewed; afterwards tokens are neither accepted nor refused
    /// (`Temporary`). Default 1 h.
    pub keep: Duration,
    /// The shortest time between two fetches: after a failure, and when a token names a key that is not known. Default
    /// 30 s.
    pub cooldown: Duration,
    /// The deadline of a fetch. Default 5 s.
    pub timeout: Duration,
    /// Certificates in PEM form that vouch for the server, in place of the roots of the web. Default none.
    pub roots: Option<String>,
}

impl Default for JwksOptions {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(5 * 60),
            keep: Duration::from_secs(60 * 60),
            cooldown: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            roots: None,
        }
    }
}

impl JwksOptions {
    fn fault(&self) -> Option<&'static str> {
        let shortest = [self.refresh, self.cooldown, self.timeout].into_iter().min();
        if shortest < Some(Duration::from_millis(10)) {
            Some("no time of the token keys may be shorter than 10 ms")
        } else if self.refresh < self.cooldown || self.keep < self.refresh {
            Some(
                "token keys must be kept no shorter than they are renewed, and that no faster than the cooldown",
            )
        } else if self.timeout > Duration::from_secs(60) {
            Some("the deadline for token keys must be at most 60 s")
        } else {
            None
        }
    }
}

/// Which tokens are accepted.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct JwtOptions {
    /// Where the public keys come from.
    pub keys: KeySource,
    /// The one issuer (`iss`) whose tokens are accepted. For several, put several verifiers into an
    /// [`AnyOf`](cqi_core::auth::AnyOf).
    pub issuer: String,
    /// The names of this service, one of which a token must be made for (`aud`). At least one.
    pub audiences: Vec<String>,
    /// The algorithms that are accepted. With none, which is the default, each key's own ones; see [`PublicKey`].
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ: `exp`, `nbf` and `iat` are judged with it. Whole seconds, at most 5 minutes. Default
    /// 60 s.
    pub leeway: Duration,
    /// The longest time from `iat` (without it, from now) to `exp` that a token may be made for. Default 24 h.
    pub max_lifetime: Duration,
    /// The types (`typ` of the header, case-insensitive, without `application/`) that are accepted. With none, which is
    /// the default, `JWT`, `at+jwt` and no type at all. `at+jwt` alone makes it strict by RFC 9068.
    pub types: Vec<String>,
    /// What the claim `token_use` must be, for example `access`. Without it, which is the default, tokens that are marked
    /// as ID or refresh tokens are refused.
    pub token_use: Option<String>,
    /// Claims that must be there and not be null, beside `exp`, `iss`, `aud` and `sub`.
    pub required_claims: Vec<String>,
    /// How published keys are fetched and kept.
    pub jwks: JwksOptions,
    pub(crate) checks: Checks,
    pub(crate) observer: Arc<dyn Observer>,
}

impl JwtOptions {
    /// Accepts the tokens of one issuer for one audience, with the defaults above.
    pub fn new(keys: KeySource, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            keys,
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            algorithms: Vec::new(),
            leeway: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(24 * 60 * 60),
            types: Vec::new(),
            token_use: None,
            required_claims: Vec::new(),
            jwks: JwksOptions::default(),
            checks: Checks::default(),
            observer: Arc::new(Silent),
        }
    }

    /// Accepts only tokens whose claims this function accepts, too. It is called after all other checks, must be fast and
    /// must not panic (ML-AUTH-8).
    pub fn with_check(mut self, check: impl Fn(&Map<String, Value>) -> bool + Send + Sync + 'static) -> Self {
        self.checks.0.push(Arc::new(check));
        self
    }

    /// Tells `observer` of each fetch of published keys ([`Observation::KeysFetched`](cqi_core::observe::Observation)).
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let blank = |text: &String| text.trim().is_empty();
        let fault = if blank(&self.issuer) {
            "the issuer of tokens must be given"
        } else if self.audiences.is_empty() || self.audiences.iter().any(blank) {
            "the audience of tokens must be given"
        } else if self.leeway > MAX_LEEWAY {
            "the leeway for clocks must be at most 5 minutes"
        } else if self.max_lifetime.is_zero() {
            "the longest lifetime of tokens must not be zero"
        } else if self.types.iter().chain(&self.required_claims).any(blank) {
            "types and required claims must not be empty"
        } else if let Some(fault) = self.jwks.fault() {
            fault
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(fault).with_operation("jwt.connect"))
    }

    /// Whether any key at all may be used with this algorithm.
    pub(crate) fn accepts_algorithm(&self, algorithm: jsonwebtoken::Algorithm) -> bool {
        let stated = |own: &Algorithm| own.library() == algorithm;
        match self.algorithms.as_slice() {
            [] => algorithm.family() != AlgorithmFamily::Hmac,
            algorithms => algorithms.iter().any(stated),
        }
    }

    /// Whether a token of this type is accepted.
    pub(crate) fn accepts_type(&self, typ: Option<&str>) -> bool {
        let Some(typ) = typ else {
            return self.types.is_empty();
        };
        let typ = match typ.get(..12) {
            Some(prefix) if prefix.eq_ignore_ascii_case("application/") => &typ[12..],
            _ => typ,
        };
        let any = |types: &[&str]| types.iter().any(|own| own.eq_ignore_ascii_case(typ));
        if self.types.is_empty() {
            any(&["JWT", "at+jwt"])
        } else {
            self.types.iter().any(|own| own.eq_ignore_ascii_case(typ))
        }
    }
}

type Check = dyn Fn(&Map<String, Value>) -> bool + Send + Sync;

/// The checks of the application.
#[derive(Clone, Default)]
pub(crate) struct Checks(Vec<Arc<Check>>);

impl Checks {
    pub(crate) fn accept(&self, claims: &Map<String, Value>) -> bool {
        self.0.iter().all(|check| check(claims))
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Checks").field(&self.0.len()).finish()
    }
}
