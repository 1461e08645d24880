//! A JSON Web Key Set (RFC 7517).

use cqi_core::{Error, Result};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::{Algorithm, PublicKey, key::MAX_KEY_ID};

/// The most keys a set may have.
const MAX_KEYS: usize = 64;

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Why a key is left out.
enum LeftOut {
    /// It is for something else.
    Foreign,
    /// It should verify and must not.
    Bad(&'static str),
}

/// Reads the keys that verify signatures and leaves out the others; one bad key does not spoil the rest.
///
/// # Errors
/// `Permanent` when this is no set of keys, it has more than 64, or none of them is of use.
pub(crate) fn parse(document: &[u8]) -> Result<Vec<PublicKey>> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|_| Error::permanent("the document with token keys is no JSON Web Key Set"))?;
    if document.keys.len() > MAX_KEYS {
        return Err(Error::permanent("the set of token keys has more than 64 keys"));
    }
    let mut keys = Vec::with_capacity(document.keys.len());
    for (position, value) in document.keys.into_iter().enumerate() {
        match serde_json::from_value(value)
            .map_err(|_| LeftOut::Bad("it is malformed"))
            .and_then(key)
        {
            Ok(key) => keys.push(key),
            Err(LeftOut::Foreign) => {
                tracing::debug!(position, "token key left out: it does not verify signatures")
            }
            Err(LeftOut::Bad(reason)) => tracing::warn!(position, reason, "token key left out"),
        }
    }
    if keys.is_empty() {
        return Err(Error::permanent(
            "the set of token keys holds none that verifies signatures",
        ));
    }
    Ok(keys)
}

fn key(jwk: Jwk) -> Result<PublicKey, LeftOut> {
    let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let algorithm = jwk.alg.as_deref().map(str::parse::<Algorithm>).transpose();
    let Ok(algorithm) = algorithm else {
        return Err(LeftOut::Foreign);
    };
    if !for_signatures {
        return Err(LeftOut::Foreign);
    }
    if jwk
        .kid
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > MAX_KEY_ID)
    {
        return Err(LeftOut::Bad("its id is empty or too long"));
    }
    let part = |part: &Option<String>| part.clone().ok_or(LeftOut::Bad("it is not complete"));
    let curve = jwk.crv.as_deref();
    let decoding = match (jwk.kty.as_str(), curve) {
        ("RSA", _) => DecodingKey::from_rsa_components(&part(&jwk.n)?, &part(&jwk.e)?),
        ("EC", Some("P-256" | "P-384")) => DecodingKey::from_ec_components(&part(&jwk.x)?, &part(&jwk.y)?),
        ("OKP", Some("Ed25519")) => DecodingKey::from_ed_components(&part(&jwk.x)?),
        _ => return Err(LeftOut::Foreign), // symmetric keys (oct) among them
    };
    let decoding = decoding.map_err(|_| LeftOut::Bad("it is malformed"))?;
    let mut key = PublicKey::checked(decoding).map_err(LeftOut::Bad)?;
    if let Some(algorithm) = algorithm {
        key = key.with_algorithm(algorithm);
    }
    if let Some(id) = jwk.kid {
        key = key.with_id(id);
    }
    match key.algorithms(&[]).as_slice() {
        [] => Err(LeftOut::Bad("its algorithm is not one of its kind")),
        [Algorithm::Es256] if curve != Some("P-256") => Err(LeftOut::Bad("it is on another curve")),
        [Algorithm::Es384] if curve != Some("P-384") => Err(LeftOut::Bad("it is on another curve")),
        _ => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm as Library, EncodingKey, jwk::Jwk as Made};
    use serde_json::json;

    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            include_bytes!(concat!("../tests/it/keys/", $name, ".pem"))
        };
    }

    /// The public half as a JWK, with these members put in their place.
    fn jwk(key: &EncodingKey, algorithm: Library, changes: &Value) -> Value {
        let mut jwk = serde_json::to_value(Made::from_encoding_key(key, algorithm).unwrap()).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    }

    #[allow(clippy::needless_pass_by_value)] // it reads better where it is called
    fn rsa(changes: Value) -> Value {
        jwk(
            &EncodingKey::from_rsa_pem(pem!("rsa")).unwrap(),
            Library::RS256,
            &changes,
        )
    }

    #[allow(clippy::needless_pass_by_value)] // it reads better where it is called
    fn p256(changes: Value) -> Value {
        jwk(
            &EncodingKey::from_ec_pem(pem!("p256")).unwrap(),
            Library::ES256,
            &changes,
        )
    }

    #[allow(clippy::needless_pass_by_value)] // it reads better where it is called
    fn ed25519(changes: Value) -> Value {
        jwk(
            &EncodingKey::from_ed_pem(pem!("ed25519")).unwrap(),
            Library::EdDSA,
            &changes,
        )
    }

    fn read(keys: &Value) -> Result<Vec<PublicKey>> {
        parse(json!({"keys": keys, "note": 1}).to_string().as_bytes())
    }

    #[test]
    fn ml_auth_2_keys_are_read_with_what_they_may_verify() {
        use Algorithm::{EdDsa, Es256, Rs256, Rs384, Rs512};
        let keys = json!([
            rsa(json!({"kid": "a", "use": "sig"})),
            rsa(json!({"kid": "b", "alg": null, "x5c": ["AAAA"], "unknown": {}})),
            p256(json!({"kid": "c", "alg": null, "key_ops": ["verify"]})),
            ed25519(json!({"kid": null})),
        ]);
        let found = read(&keys).unwrap();
        let found: Vec<_> = found.iter().map(|key| (key.id(), key.algorithms(&[]))).collect();
        let expected = [
            (Some("a"), vec![Rs256]),
            (Some("b"), vec![Rs256, Rs384, Rs512]),
            (Some("c"), vec![Es256]),
            (None, vec![EdDsa]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_17_a_key_that_is_bad_or_for_something_else_is_left_out() {
        let p384 = jwk(
            &EncodingKey::from_ec_pem(pem!("p384")).unwrap(),
            Library::ES384,
            &json!({}),
        );
        for bad in [
            rsa(json!({"use": "enc"})),
            rsa(json!({"key_ops": ["encrypt"]})),
            rsa(json!({"alg": "RSA-OAEP"})),
            rsa(json!({"alg": "HS256"})),
            rsa(json!({"alg": "none"})),
            rsa(json!({"alg": "ES256"})),
            rsa(json!({"n": "AQAB"})),
            rsa(json!({"n": "u".repeat(86)})), // 512 bits
            rsa(json!({"e": "AQ"})),
            rsa(json!({"n": null})),
            rsa(json!({"n": "not base64!"})),
            rsa(json!({"n": 7})),
            rsa(json!({"kid": "k".repeat(129)})),
            rsa(json!({"kid": ""})),
            rsa(json!({"kid": 7})),
            json!({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}),
            json!({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0"}),
            json!({"kty": "AKP", "alg": "ML-DSA-44"}),
            p256(json!({"crv": "secp256k1"})),
            p256(json!({"crv": "P-384"})),
            p256(json!({"crv": "P-384", "alg": null})),
            p256(json!({"x": p384["x"], "y": p384["y"], "alg": null})),
            p256(json!({"y": p384["y"]})),
            p256(json!({"x": "AAAA"})),
            ed25519(json!({"x": "AAAA"})),
            ed25519(json!({"x": ""})),
            ed25519(json!({"crv": "Ed448"})),
            ed25519(json!({"crv": "X25519"})),
            json!("key"),
            json!(null),
            json!({}),
        ] {
            let found = read(&json!([bad, p256(json!({"kid": "good"}))])).unwrap();
            assert_eq!(found.len(), 1, "{bad}");
            assert_eq!(found[0].id(), Some("good"), "{bad}");
        }
    }

    #[test]
    fn a_17_a_document_without_useful_keys_is_none() {
        let many = vec![p256(json!({})); 65];
        let none = json!([rsa(json!({"use": "enc"}))]);
        for bad in [json!([]), none, json!(many), json!({}), json!("x")] {
            assert!(read(&bad).unwrap_err().is_permanent(), "{bad}");
        }
        for bad in ["", "<html></html>", "[]", "null", "{}", &"[".repeat(10_000)] {
            assert!(parse(bad.as_bytes()).unwrap_err().is_permanent());
        }
    }
}
