//! Tokens of an issuer, made for a test. The keys beside this file were made for it too.

use cqi_core::{Result, auth::AuthContext, auth::Verifier as _};
use cqi_jwt::{JwtOptions, JwtVerifier, KeySource, PublicKey, load_public_key_from_pem};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://id.example.com/";
pub(crate) const AUDIENCE: &str = "positions";

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("keys/", $name, ".pem"))
    };
}
pub(crate) use pem;

pub(crate) fn public(pem: &str) -> PublicKey {
    load_public_key_from_pem(pem).unwrap()
}

/// Options for the keys' issuer.
pub(crate) fn options(keys: impl IntoIterator<Item = PublicKey>) -> JwtOptions {
    JwtOptions::new(KeySource::Given(keys.into_iter().collect()), ISSUER, AUDIENCE)
}

/// A verifier of the Ed25519 key, the quickest, changed by `change`.
pub(crate) async fn verifier_with(change: impl FnOnce(&mut JwtOptions)) -> JwtVerifier {
    let mut options = options([public(pem!("ed25519.pub"))]);
    change(&mut options);
    JwtVerifier::connect(options).await.unwrap()
}

pub(crate) fn private(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem!("ed25519").as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem!("p256").as_bytes()),
        Algorithm::ES384 => EncodingKey::from_ec_pem(pem!("p384").as_bytes()),
        _ => EncodingKey::from_rsa_pem(pem!("rsa").as_bytes()),
    }
    .unwrap()
}

/// Seconds since 1970, `offset` seconds from now.
pub(crate) fn date(offset: i64) -> i64 {
    jsonwebtoken::get_current_timestamp().cast_signed() + offset
}

/// Claims that are accepted, with these put in their place; null takes a claim away.
#[allow(clippy::needless_pass_by_value)] // it reads better where it is called
pub(crate) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": date(0), "exp": date(600),
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    claims
}

/// A good token with these claims changed.
pub(crate) fn token(changes: Value) -> String {
    signed(&Header::new(Algorithm::EdDSA), &claims(changes))
}

/// A token with this header, signed with the key of its algorithm.
pub(crate) fn signed(header: &Header, claims: &Value) -> String {
    encode(header, claims, &private(header.alg)).unwrap()
}

/// A token of raw texts for header and claims, signed with the Ed25519 key.
pub(crate) fn raw(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let message = format!("{}.{}", base64(header.as_ref()), base64(claims.as_ref()));
    let signature = crypto::sign(message.as_bytes(), &private(Algorithm::EdDSA), Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

/// base64url without padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = |chunk: &[u8]| {
        let bits = (0..3).fold(0_usize, |bits, i| {
            bits << 8 | usize::from(*chunk.get(i).unwrap_or(&0))
        });
        (0..=chunk.len())
            .map(|digit| char::from(DIGITS[bits >> (18 - 6 * digit) & 63]))
            .collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

pub(crate) async fn verify(verifier: &JwtVerifier, token: &str) -> Result<AuthContext> {
    verifier.verify(&token.into()).await
}

/// Asserts the one answer to everything that is wrong.
pub(crate) async fn assert_refused(verifier: &JwtVerifier, token: &str, what: impl std::fmt::Debug) {
    match verify(verifier, token).await {
        Ok(caller) => panic!("{what:?} was accepted: {caller:?}"),
        Err(error) => {
            assert_eq!(
                error.to_string(),
                cqi_core::auth::refused().to_string(),
                "{what:?}"
            );
            let shown = format!("{error:?}");
            assert!(error.is_unauthorized(), "{what:?}");
            assert!(token.len() < 16 || !shown.contains(token), "{shown}");
        }
    }
}
