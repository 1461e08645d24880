//! The verifier.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    auth::{AuthContext, MAX_CREDENTIAL, Verifier, refused},
    health::{Checker, check_fn},
    secret::Secret,
};
use jsonwebtoken::{Header, decode, decode_header, errors::ErrorKind, get_current_timestamp};
use reqwest::Url;

use crate::{
    JwtOptions, KeySource,
    cached::{CachedKeys, KeyChecker},
    claims::{self, Claims},
    http::{Fetcher, address},
    jwks,
    key::MAX_KEY_ID,
    key_set::{self, KeySet, MAX_TRIES},
    oidc, self_test,
};

/// Verifies JSON Web Tokens (AUTH-5, ML-AUTH-6).
///
/// The token's header says which key it claims to be signed with; everything else is decided here: a key is used with its
/// own algorithms only, and `jku`, `x5u`, `jwk` and `x5c` are ignored.
///
/// Every refusal is the same `Unauthorized`; the reason is logged at `debug`, without the token.
pub struct JwtVerifier {
    options: Arc<JwtOptions>,
    keys: Keys,
}

enum Keys {
    Given(KeySet),
    Published(CachedKeys),
}

/// Why there is no caller.
enum Failure {
    /// The token is wrong. The words hold nothing of it.
    Refused(&'static str),
    /// It cannot be told.
    Undecided(Error),
}

impl JwtVerifier {
    /// Checks the options, the keys and the cryptography, and fetches published keys, which it then renews on a task of its
    /// own until it is dropped.
    ///
    /// # Errors
    /// `InvalidInput` when the options are at odds; `Temporary` when published keys cannot be fetched just now, and
    /// `Permanent` when what is published cannot be used, is another issuer's, or the cryptography does not work.
    pub async fn connect(options: JwtOptions) -> Result<Self> {
        options.validate()?;
        self_test::run()?;
        let options = Arc::new(options);
        let keys = match &options.keys {
            KeySource::Given(keys) => Keys::Given(key_set::given(keys.clone(), &options)?),
            KeySource::Jwks(url) => {
                let fetcher = Fetcher::new(&options.jwks)?;
                Keys::Published(publish(fetcher, address(url)?, &options).await?)
            }
            KeySource::Oidc => {
                let fetcher = Fetcher::new(&options.jwks)?;
                let url = oidc::discover(&fetcher, &options.issuer).await?;
                Keys::Published(publish(fetcher, url, &options).await?)
            }
        };
        Ok(Self { options, keys })
    }

    /// Checks whether published keys could be renewed when they were asked for last, under the name `token_keys`; always
    /// well when the keys were given.
    ///
    /// Tokens are verified for a while without renewal ([`JwksOptions::keep`](crate::JwksOptions::keep)), so register it as
    /// not required: operators shall see it, and no instance shall be taken out of service for it.
    pub fn checker(&self) -> impl Checker + use<> {
        let keys = match &self.keys {
            Keys::Given(_) => None,
            Keys::Published(keys) => Some(keys.checker()),
        };
        check_fn("token_keys", move || {
            std::future::ready(keys.as_ref().map_or(Ok(()), KeyChecker::check))
        })
    }

    async fn caller(&self, token: &str) -> Result<AuthContext, Failure> {
        let header = self.header(token).map_err(Failure::Refused)?;
        match &self.keys {
            Keys::Given(keys) => self.with_keys(token, &header, keys),
            Keys::Published(keys) => {
                let keys = keys.find(header.kid.as_deref(), header.alg).await;
                self.with_keys(token, &header, &*keys.map_err(Failure::Undecided)?)
            }
        }
        .map_err(Failure::Refused)
    }

    /// Reads the header and refuses what `jsonwebtoken` would overlook.
    fn header(&self, token: &str) -> Result<Header, &'static str> {
        if token.len() > MAX_CREDENTIAL {
            return Err("it is too long");
        }
        let header = decode_header(token).map_err(|error| reason(error.kind()))?;
        if header.crit.is_some() {
            return Err("it has critical extensions (crit)"); // nobody here would enforce them
        }
        if header
            .kid
            .as_ref()
            .is_some_and(|id| id.is_empty() || id.len() > MAX_KEY_ID)
        {
            return Err("its key id is empty or too long");
        }
        // Told before any key is looked for, so that no such token makes keys be fetched.
        if !self.options.accepts_algorithm(header.alg) {
            return Err("its algorithm is not accepted");
        }
        if !self.options.accepts_type(header.typ.as_deref()) {
            return Err("its type is not accepted");
        }
        Ok(header)
    }

    fn with_keys(&self, token: &str, header: &Header, keys: &KeySet) -> Result<AuthContext, &'static str> {
        let fitting = || keys.fitting(header.kid.as_deref(), header.alg);
        if fitting().nth(MAX_TRIES).is_some() {
            return Err("it does not name one of many keys");
        }
        let mut why = "no key fits its key id and algorithm";
        for key in fitting() {
            match decode::<Claims>(token, &key.decoding, &key.validation) {
                Ok(token) => {
                    claims::check(&token.claims, &self.options, get_current_timestamp())?;
                    return claims::caller(token.claims, &self.options);
                }
                Err(error) => why = reason(error.kind()),
            }
        }
        Err(why)
    }
}

#[async_trait]
impl Verifier for JwtVerifier {
    async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
        match self.caller(credential.expose()).await {
            Ok(caller) => Ok(caller),
            Err(Failure::Undecided(error)) => Err(error),
            Err(Failure::Refused(reason)) => {
                tracing::debug!(reason, issuer = self.options.issuer, "token refused");
                Err(refused())
            }
        }
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = match &self.keys {
            Keys::Given(keys) => keys.len(),
            Keys::Published(keys) => keys.len(),
        };
        f.debug_struct("JwtVerifier")
            .field("issuer", &self.options.issuer)
            .field("audiences", &self.options.audiences)
            .field("keys", &count)
            .finish()
    }
}

async fn publish(fetcher: Fetcher, url: Url, options: &Arc<JwtOptions>) -> Result<CachedKeys> {
    let kept = Arc::clone(options);
    let options = Arc::clone(options);
    let fetch = move || {
        let (fetcher, url, options) = (fetcher.clone(), url.clone(), Arc::clone(&options));
        async move {
            let keys = KeySet::new(jwks::parse(&fetcher.json(&url).await?)?, &options);
            match keys.len() {
                0 => Err(Error::permanent("no published key fits the accepted algorithms")),
                _ => Ok(keys),
            }
        }
    };
    CachedKeys::start(fetch, kept).await
}

/// The library's reason in fixed words: its own may quote the token.
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidIssuer => "its issuer is not the expected one",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "exp, iss, aud or sub is missing or malformed",
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => "its algorithm is not accepted",
        _ => "it is malformed",
    }
}
