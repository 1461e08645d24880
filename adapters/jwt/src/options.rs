//! How tokens are checked.

use std::{fmt, sync::Arc, time::Duration};

use cqi_core::{Error, Result};
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
    pub(crate) checks: Checks,
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
            checks: Checks::default(),
        }
    }

    /// Accepts only tokens whose claims this function accepts, too. It is called after all other checks, must be fast and
    /// must not panic (ML-AUTH-8).
    pub fn with_check(mut self, check: impl Fn(&Map<String, Value>) -> bool + Send + Sync + 'static) -> Self {
        self.checks.0.push(Arc::new(check));
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
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(fault).with_operation("jwt.connect"))
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
