//! Hostile headers, on tokens whose signature is good.

use jsonwebtoken::{Algorithm, Header, jwk::Jwk};
use serde_json::json;

use cqi_jwt::JwtVerifier;

use crate::token::{
    assert_refused, claims, options, pem, private, public, raw, signed, token, verifier_with, verify,
};

#[tokio::test]
async fn a_04_a_key_id_is_only_looked_up() {
    let named = options([public(pem!("ed25519.pub")).with_id("good")]);
    let verifier = JwtVerifier::connect(named).await.unwrap();
    let claims = claims(json!({})).to_string();
    let with_id = |id: serde_json::Value| raw(json!({"alg": "EdDSA", "kid": id}).to_string(), &claims);
    assert!(verify(&verifier, &with_id(json!("good"))).await.is_ok());
    for bad in [
        json!("../../etc/passwd"),
        json!("x' OR '1'='1"),
        json!("good\0"),
        json!("GOOD"),
        json!(""),
        json!("k".repeat(129)),
        json!("k".repeat(5000)),
        json!(1),
        json!(["good"]),
        json!({"good": true}),
    ] {
        assert_refused(&verifier, &with_id(bad.clone()), bad).await;
    }
    // Even where any id would do.
    let any = verifier_with(|_| {}).await;
    assert!(verify(&any, &with_id(json!("anything"))).await.is_ok());
    for bad in [json!(""), json!("k".repeat(129)), json!(1)] {
        assert_refused(&any, &with_id(bad.clone()), bad).await;
    }
}

#[tokio::test]
async fn a_06_keys_and_addresses_in_the_header_are_ignored() {
    let verifier = verifier_with(|_| {}).await;
    let stranger = jsonwebtoken::EncodingKey::from_ed_pem(pem!("ed25519_other").as_bytes()).unwrap();
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/keys", listening.local_addr().unwrap());
    let mut header = Header::new(Algorithm::EdDSA);
    header.jku = Some(address.clone());
    header.x5u = Some(address);
    header.x5c = Some(vec!["AAAA".into()]);
    header.jwk = Some(Jwk::from_encoding_key(&stranger, Algorithm::EdDSA).unwrap());
    let forged = jsonwebtoken::encode(&header, &claims(json!({})), &stranger).unwrap();
    assert_refused(&verifier, &forged, "signed with the key it brings").await;
    let honest = jsonwebtoken::encode(&header, &claims(json!({})), &private(Algorithm::EdDSA)).unwrap();
    assert!(verify(&verifier, &honest).await.is_ok());
    let nobody_came = tokio::select! {
        biased;
        _ = listening.accept() => false,
        () = std::future::ready(()) => true,
    };
    assert!(nobody_came);
}

#[tokio::test]
async fn a_07_critical_extensions_are_refused() {
    let verifier = verifier_with(|_| {}).await;
    for crit in [json!(["exp"]), json!([]), json!(["b64"]), json!("exp")] {
        let header = json!({"alg": "EdDSA", "crit": crit, "b64": false});
        let token = raw(header.to_string(), claims(json!({})).to_string());
        assert_refused(&verifier, &token, header).await;
    }
}

#[tokio::test]
async fn a_14_only_an_access_token_gives_access() {
    let verifier = verifier_with(|_| {}).await;
    for bad in [
        json!({"at_hash": "x"}),
        json!({"c_hash": "x"}),
        json!({"token_use": "id"}),
        json!({"typ": "ID"}),
        json!({"typ": "Refresh"}),
    ] {
        assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
    let mut header = Header::new(Algorithm::EdDSA);
    for bad in [
        "logout+jwt",
        "dpop+jwt",
        "",
        "JWT ",
        "application/",
        "ääääääa",
        "secevent+jwt",
    ] {
        header.typ = Some(bad.into());
        assert_refused(&verifier, &signed(&header, &claims(json!({}))), bad).await;
    }

    let strict = verifier_with(|options| {
        options.types = vec!["at+jwt".into()];
        options.token_use = Some("access".into());
    })
    .await;
    for (typ, token_use, good) in [
        (Some("at+jwt"), json!("access"), true),
        (Some("application/at+jwt"), json!("access"), true),
        (Some("JWT"), json!("access"), false),
        (None, json!("access"), false),
        (Some("at+jwt"), json!("id"), false),
        (Some("at+jwt"), json!(null), false),
    ] {
        header.typ = typ.map(str::to_owned);
        let token = signed(&header, &claims(json!({"token_use": token_use})));
        assert_eq!(verify(&strict, &token).await.is_ok(), good, "{typ:?} {token_use}");
    }
}
