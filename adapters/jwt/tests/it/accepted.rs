//! What is accepted, and whom it names.

use cqi_core::auth::{AnyOf, AuthType, Verifier as _};
use jsonwebtoken::{Algorithm, Header};
use serde_json::json;

use crate::token::{
    AUDIENCE, ISSUER, claims, date, options, pem, public, signed, token, verifier_with, verify,
};
use cqi_jwt::JwtVerifier;

#[tokio::test]
async fn auth_5_a_token_of_each_kind_of_key_is_accepted() {
    let all = options([
        public(pem!("ed25519.pub")),
        public(pem!("p256.pub")),
        public(pem!("p384.pub")),
        public(pem!("rsa.pub")),
    ]);
    let verifier = JwtVerifier::connect(all).await.unwrap();
    for algorithm in [
        Algorithm::EdDSA,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::RS256,
        Algorithm::RS512,
    ] {
        let token = signed(&Header::new(algorithm), &claims(json!({})));
        let caller = verify(&verifier, &token).await.unwrap();
        assert_eq!(caller.user_id.as_deref(), Some("ada"), "{algorithm:?}");
    }
}

#[tokio::test]
async fn auth_6_10_the_claims_become_the_caller() {
    let verifier = verifier_with(|_| {}).await;
    let user = verify(&verifier, &token(json!({"roles": ["admin"], "scope": "read"})))
        .await
        .unwrap();
    assert_eq!(
        (user.user_id.as_deref(), user.service_id.as_deref()),
        (Some("ada"), None)
    );
    assert_eq!(
        (user.issuer.as_deref(), user.auth_type),
        (Some(ISSUER), AuthType::Jwt)
    );
    assert!(user.has_role("admin") && user.has_permission("read"));
    assert_eq!(user.claims["aud"], AUDIENCE);

    let service = verify(&verifier, &token(json!({"sub": "service:billing"})))
        .await
        .unwrap();
    assert_eq!(
        (service.user_id.as_deref(), service.service_id.as_deref()),
        (None, Some("billing"))
    );
}

#[tokio::test]
async fn a_15_the_same_subject_of_two_issuers_is_two_callers() {
    let first = verifier_with(|_| {}).await;
    let second = verifier_with(|options| options.issuer = "https://other.example.com/".into()).await;
    let any = AnyOf::new().or(first).or(second);
    let mut callers = Vec::new();
    for issuer in [ISSUER, "https://other.example.com/"] {
        callers.push(
            any.verify(&token(json!({"iss": issuer})).as_str().into())
                .await
                .unwrap(),
        );
    }
    assert_eq!(callers[0].user_id, callers[1].user_id);
    assert_ne!(callers[0].issuer, callers[1].issuer);
    assert!(
        any.verify(
            &token(json!({"iss": "https://third.example.com/"}))
                .as_str()
                .into()
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn ml_auth_8_leeway_lists_of_audiences_and_types_are_taken_as_the_rfc_says() {
    let verifier = verifier_with(|_| {}).await;
    for good in [
        json!({"exp": date(-30), "iat": date(-600)}),
        json!({"iat": date(30)}),
        json!({"nbf": date(30)}),
        json!({"iat": null}),
        json!({"exp": date(600) as f64 + 0.5}),
        json!({"aud": ["others", AUDIENCE]}),
        json!({"jti": "x", "nested": {"deep": [1, 2, 3]}}),
        json!({"token_use": "access"}),
        json!({"sub": "Ада 🦀 service:no"}),
    ] {
        verify(&verifier, &token(good.clone()))
            .await
            .unwrap_or_else(|_| panic!("{good}"));
    }
    for typ in [
        None,
        Some("JWT"),
        Some("jwt"),
        Some("at+jwt"),
        Some("application/AT+JWT"),
    ] {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = typ.map(str::to_owned);
        assert!(
            verify(&verifier, &signed(&header, &claims(json!({}))))
                .await
                .is_ok(),
            "{typ:?}"
        );
    }
}

#[tokio::test]
async fn ml_auth_8_required_claims_and_own_checks() {
    let verifier = verifier_with(|options| {
        options.required_claims = vec!["tenant".into()];
        *options = options.clone().with_check(|claims| claims["tenant"] != "blocked");
    })
    .await;
    assert!(verify(&verifier, &token(json!({"tenant": "acme"}))).await.is_ok());
    for bad in [json!({}), json!({"tenant": "blocked"})] {
        crate::token::assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
}

#[tokio::test]
async fn several_keys_without_an_id_are_tried_and_named_ones_are_not_mixed_up() {
    let (old, new) = (public(pem!("ed25519_other.pub")), public(pem!("ed25519.pub")));
    let unnamed = JwtVerifier::connect(options([old.clone(), new.clone()]))
        .await
        .unwrap();
    assert!(verify(&unnamed, &token(json!({}))).await.is_ok());

    let named = options([old.with_id("old"), new.with_id("new")]);
    let named = JwtVerifier::connect(named).await.unwrap();
    let mut header = Header::new(Algorithm::EdDSA);
    assert!(
        verify(&named, &signed(&header, &claims(json!({})))).await.is_ok(),
        "no id: all are tried"
    );
    for (id, good) in [("new", true), ("old", false), ("other", false)] {
        header.kid = Some(id.into());
        let found = verify(&named, &signed(&header, &claims(json!({})))).await;
        assert_eq!(found.is_ok(), good, "{id}");
    }
}

#[tokio::test]
async fn options_at_odds_are_refused_at_the_start() {
    use cqi_jwt::{Algorithm as Own, JwtOptions};
    let key = || public(pem!("ed25519.pub"));
    let good = || options([key()]);
    type Change = fn(&mut JwtOptions);
    let changes: [Change; 7] = [
        |options| options.issuer = " ".into(),
        |options| options.audiences.clear(),
        |options| options.audiences.push(String::new()),
        |options| options.leeway = std::time::Duration::from_secs(3600),
        |options| options.max_lifetime = std::time::Duration::ZERO,
        |options| options.types.push(String::new()),
        |options| options.algorithms = vec![Own::Rs256],
    ];
    for (position, change) in changes.into_iter().enumerate() {
        let mut options = good();
        change(&mut options);
        let error = JwtVerifier::connect(options).await.unwrap_err();
        assert!(error.is_invalid_input(), "{position}: {error}");
    }
    for keys in [
        vec![],
        vec![key(); 5],
        vec![key().with_id("k".repeat(129))],
        vec![key().with_id("")],
    ] {
        assert!(
            JwtVerifier::connect(options(keys))
                .await
                .unwrap_err()
                .is_invalid_input()
        );
    }
}
