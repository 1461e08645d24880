//! Sets of keys, good and hostile.

use jsonwebtoken::{Algorithm as Library, EncodingKey, jwk::Jwk as Made};
use serde_json::json;

use super::*;

#[path = "../../../../core/tests/fuzz/mutator.rs"]
mod mutator;

macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/it/keys/", $name, ".pem"))
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

#[test]
fn a_17_no_document_makes_it_panic() {
    let keys = json!({"keys": [rsa(json!({})), p256(json!({"kid": "a"})), ed25519(json!({"alg": null}))]});
    let corpus = [
        keys.to_string(),
        keys["keys"][1].to_string(),
        r#"{"keys":[{}]}"#.to_owned(),
    ];
    mutator::run(&corpus.each_ref().map(String::as_bytes), 2_000, |document| {
        if let Ok(keys) = parse(document) {
            assert!((1..=MAX_KEYS).contains(&keys.len()));
            assert!(keys.iter().all(|key| !key.algorithms(&[]).is_empty()));
        }
    });
}
