//! The verifier.

use std::fmt;

use async_trait::async_trait;
use cqi_core::{
    Error, Result,
    auth::{AuthContext, MAX_CREDENTIAL, Verifier, refused},
    secret::Secret,
};
use jsonwebtoken::{Header, decode, decode_header, errors::ErrorKind, get_current_timestamp};

use crate::{
    JwtOptions, KeySource,
    claims::{self, Claims},
    key::MAX_KEY_ID,
    key_set::{self, KeySet, MAX_TRIES},
    self_test,
};

/// Verifies JSON Web Tokens (AUTH-5, ML-AUTH-6).
///
/// The token's header says which key it claims to be signed with; everything else is decided here: a key is used with its
/// own algorithms only, and `jku`, `x5u`, `jwk` and `x5c` are ignored.
///
/// Every refusal is the same `Unauthorized`; the reason is logged at `debug`, without the token.
pub struct JwtVerifier {
    options: JwtOptions,
    keys: KeySet,
}

/// Why there is no caller.
enum Failure {
    /// The token is wrong. The words hold nothing of it.
    Refused(&'static str),
    /// It cannot be told.
    #[allow(dead_code)]
    Undecided(Error),
}

impl JwtVerifier {
    /// Checks the options, the keys and the cryptography.
    ///
    /// # Errors
    /// `InvalidInput` when the options are at odds, and `Permanent` when the cryptography does not work.
    pub async fn connect(options: JwtOptions) -> Result<Self> {
        options.validate()?;
        self_test::run()?;
        let keys = match options.keys.clone() {
            KeySource::Given(keys) => key_set::given(keys, &options)?,
        };
        Ok(Self { options, keys })
    }

    async fn caller(&self, token: &str) -> Result<AuthContext, Failure> {
        let header = self.header(token).map_err(Failure::Refused)?;
        self.with_keys(token, &header, &self.keys)
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
        f.debug_struct("JwtVerifier")
            .field("issuer", &self.options.issuer)
            .field("audiences", &self.options.audiences)
            .field("keys", &self.keys.len())
            .finish()
    }
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
