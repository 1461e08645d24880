//! Which algorithm a key is used with is never the token's choice.

use cqi_jwt::{Algorithm as Own, JwtVerifier};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::token::{
    assert_refused, base64, claims, options, pem, private, public, raw, signed, token, verifier_with, verify,
};

#[tokio::test]
async fn a_01_a_token_that_is_not_signed_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    let good = token(json!({}));
    let (header, payload) = (good.split('.').next().unwrap(), good.split('.').nth(1).unwrap());
    for none in ["none", "None", "nOnE", "NONE", ""] {
        let header = base64(json!({"alg": none, "typ": "JWT"}).to_string().as_bytes());
        assert_refused(&verifier, &format!("{header}.{payload}."), none).await;
        assert_refused(&verifier, &format!("{header}.{payload}"), none).await;
        let signature = good.rsplit('.').next().unwrap();
        assert_refused(&verifier, &format!("{header}.{payload}.{signature}"), none).await;
    }
    assert_refused(&verifier, &format!("{header}.{payload}."), "empty signature").await;
    assert_refused(&verifier, &format!("{header}.{payload}.AAAA"), "short signature").await;
    let zeros = base64(&[0; 64]);
    assert_refused(
        &verifier,
        &format!("{header}.{payload}.{zeros}"),
        "zero signature",
    )
    .await;
}

#[tokio::test]
async fn a_02_a_public_key_is_no_secret() {
    let pem = pem!("rsa.pub");
    let verifier = JwtVerifier::connect(options([public(pem)])).await.unwrap();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        for secret in [pem, pem.trim(), &pem.replace('\n', "")] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let forged = encode(&Header::new(algorithm), &claims(json!({})), &key).unwrap();
            assert_refused(&verifier, &forged, algorithm).await;
        }
    }
}

#[tokio::test]
async fn a_03_an_algorithm_of_another_key_does_not_help() {
    let narrow = public(pem!("rsa.pub")).with_id("rsa").with_algorithm(Own::Rs256);
    let other = public(pem!("p256.pub")).with_id("ec");
    let mut options = options([narrow, other]);
    options.algorithms = vec![Own::Rs256, Own::Rs384, Own::Es256];
    let verifier = JwtVerifier::connect(options).await.unwrap();
    for (algorithm, id, good) in [
        (Algorithm::RS256, "rsa", true),
        (Algorithm::RS384, "rsa", false),
        (Algorithm::ES256, "ec", true),
        (Algorithm::ES256, "rsa", false),
        (Algorithm::RS256, "ec", false),
    ] {
        let mut header = Header::new(algorithm);
        header.kid = Some(id.into());
        let token = signed(&header, &claims(json!({})));
        assert_eq!(
            verify(&verifier, &token).await.is_ok(),
            good,
            "{algorithm:?} {id}"
        );
    }
}

#[tokio::test]
async fn op_25_pss_is_accepted_only_when_it_is_stated() {
    let token = signed(&Header::new(Algorithm::PS256), &claims(json!({})));
    let usual = JwtVerifier::connect(options([public(pem!("rsa.pub"))]))
        .await
        .unwrap();
    assert_refused(&usual, &token, "PS256").await;
    let mut stated = options([public(pem!("rsa.pub"))]);
    stated.algorithms = vec![Own::Ps256];
    let stated = JwtVerifier::connect(stated).await.unwrap();
    assert!(verify(&stated, &token).await.is_ok());
}

#[tokio::test]
async fn ml_auth_11_a_token_that_was_tampered_with_or_signed_by_a_stranger_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    let good = token(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let stronger = base64(claims(json!({"roles": ["admin"]})).to_string().as_bytes());
    assert_refused(
        &verifier,
        &format!("{}.{stronger}.{}", parts[0], parts[2]),
        "claims",
    )
    .await;

    let stranger = EncodingKey::from_ed_pem(pem!("ed25519_other").as_bytes()).unwrap();
    let forged = encode(&Header::new(Algorithm::EdDSA), &claims(json!({})), &stranger).unwrap();
    assert_refused(&verifier, &forged, "stranger").await;

    let ec = encode(
        &Header::new(Algorithm::ES256),
        &claims(json!({})),
        &private(Algorithm::ES256),
    )
    .unwrap();
    assert_refused(&verifier, &ec, "a key of another kind").await;
}

#[tokio::test]
async fn ml_auth_11_whatever_is_no_token_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    let good = token(json!({}));
    let long = raw(r#"{"alg":"EdDSA"}"#, format!(r#"{{"x":"{}"}}"#, "x".repeat(9000)));
    for bad in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "0123456789abcdef",
        &good[1..],
        &good[..good.len() - 1],
        &format!("{good}."),
        &format!("{good}=="),
        &format!(" {good}"),
        &good.replace('.', ".."),
        &long,
        &raw("[]", "{}"),
        &raw("{}", "{}"),
        &raw(r#"{"alg":"EdDSA"}"#, "[]"),
        &raw(r#"{"alg":"EdDSA"}"#, "not json"),
        &raw(r#"{"alg":"EdDSA"}"#, [0xff, 0xfe]),
        &raw(r#"{"alg":"EdDSA"}"#, "[".repeat(3000)),
        &raw(r#"{"alg":"EdDSA","alg":"EdDSA"}"#, claims(json!({})).to_string()),
        &raw(r#"{"alg":["EdDSA"]}"#, claims(json!({})).to_string()),
    ] {
        assert_refused(&verifier, bad, bad).await;
    }
}
