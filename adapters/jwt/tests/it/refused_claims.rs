//! Claims that are wrong, on tokens whose signature is good.

use serde_json::json;

use crate::token::{AUDIENCE, ISSUER, assert_refused, claims, date, raw, token, verifier_with, verify};

#[tokio::test]
async fn a_08_a_token_for_somebody_else_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    for bad in [
        json!({"aud": null}),
        json!({"aud": ""}),
        json!({"aud": "orders"}),
        json!({"aud": "Positions"}),
        json!({"aud": "positions "}),
        json!({"aud": []}),
        json!({"aud": ["orders", "assets"]}),
        json!({"aud": [7]}),
        json!({"aud": {"positions": true}}),
        json!({"aud": 7}),
    ] {
        assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
}

#[tokio::test]
async fn a_09_a_token_of_somebody_else_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    for bad in [
        json!({"iss": null}),
        json!({"iss": ""}),
        json!({"iss": "https://id.example.com"}),
        json!({"iss": "https://id.example.com.evil.example/"}),
        json!({"iss": [ISSUER]}),
        json!({"iss": [ISSUER, "https://evil.example/"]}),
        json!({"iss": 7}),
    ] {
        assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
}

#[tokio::test]
async fn ml_auth_11_an_expired_token_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    for bad in [
        json!({"exp": date(-62), "iat": date(-600)}),
        json!({"exp": null}),
        json!({"exp": "9999999999"}),
        json!({"exp": -1}),
        json!({"exp": 0}),
        json!({"exp": [date(600)]}),
        json!({"exp": 1e300}),
    ] {
        assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
}

#[tokio::test]
async fn a_11_a_token_that_is_not_valid_yet_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    for bad in [
        json!({"nbf": date(120)}),
        json!({"nbf": "soon"}),
        json!({"iat": date(120)}),
        json!({"iat": "now"}),
        json!({"iat": -5}),
    ] {
        assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
}

#[tokio::test]
async fn a_13_a_token_made_for_years_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    let years = 10 * 365 * 24 * 3600;
    for bad in [
        json!({"exp": date(years)}),
        json!({"exp": date(years), "iat": null}),
        json!({"exp": date(years), "iat": date(years - 60)}),
        json!({"exp": date(60), "iat": date(-2 * 24 * 3600)}),
        json!({"exp": u64::MAX}),
    ] {
        assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
    let day = json!({"exp": date(24 * 3600)});
    assert!(verify(&verifier, &token(day)).await.is_ok());
    let patient = verifier_with(|options| {
        options.max_lifetime = std::time::Duration::from_secs(years.unsigned_abs());
    })
    .await;
    assert!(
        verify(&patient, &token(json!({"exp": date(years)})))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_subject_must_name_somebody() {
    let verifier = verifier_with(|_| {}).await;
    for bad in [
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": ["ada"]}),
        json!({"sub": "service:"}),
        json!({"sub": "ada\r\nX-Admin: yes"}),
    ] {
        assert_refused(&verifier, &token(bad.clone()), bad).await;
    }
}

#[tokio::test]
async fn a_claim_given_twice_is_refused() {
    let verifier = verifier_with(|_| {}).await;
    let good = claims(json!({})).to_string();
    for twice in [
        format!(r#"{{"aud":"orders",{}"#, &good[1..]),
        format!(r#"{{"iss":"x",{}"#, &good[1..]),
        format!(r#"{{"sub":"root",{}"#, &good[1..]),
        format!(r#"{{"exp":1,{}"#, &good[1..]),
    ] {
        assert_refused(&verifier, &raw(r#"{"alg":"EdDSA"}"#, &twice), &twice).await;
    }
    assert!(
        verify(&verifier, &raw(r#"{"alg":"EdDSA"}"#, &good)).await.is_ok(),
        "{AUDIENCE}"
    );
}

#[tokio::test]
async fn ml_auth_5_debug_shows_neither_keys_nor_claims() {
    let verifier = verifier_with(|_| {}).await;
    let shown = format!("{verifier:?}");
    assert!(shown.contains(ISSUER) && !shown.contains("checks"), "{shown}");
}
