//! Keys that an issuer publishes, fetched over a real socket.

use std::time::Duration;

use cqi_core::{Result, auth::Verifier as _, health::Checker as _};
use cqi_jwt::{Algorithm as Own, JwtOptions, JwtVerifier, KeySource};
use jsonwebtoken::{Algorithm, Header};
use serde_json::json;

use crate::{
    issuer::{Issuer, answer, key_set},
    token::{AUDIENCE, ISSUER, assert_refused, claims, signed, verify},
};

fn jwks(issuer: &Issuer) -> JwtOptions {
    JwtOptions::new(KeySource::Jwks(format!("{}/keys", issuer.url)), ISSUER, AUDIENCE)
}

fn named(id: &str, algorithm: Algorithm, changes: serde_json::Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(id.to_owned());
    signed(&header, &claims(changes))
}

/// Times so short that a test sees keys being renewed.
fn hasty(options: &mut JwtOptions) {
    options.jwks.refresh = Duration::from_millis(20);
    options.jwks.cooldown = Duration::from_millis(10);
}

#[tokio::test]
async fn ml_auth_2_keys_come_from_a_key_set() {
    let issuer = Issuer::start().await;
    issuer.publishes(
        "/keys",
        &key_set(&[("ed", Algorithm::EdDSA), ("ec", Algorithm::ES256)]),
    );
    let verifier = JwtVerifier::connect(jwks(&issuer)).await.unwrap();
    assert!(
        verify(&verifier, &named("ed", Algorithm::EdDSA, json!({})))
            .await
            .is_ok()
    );
    assert!(
        verify(&verifier, &named("ec", Algorithm::ES256, json!({})))
            .await
            .is_ok()
    );
    assert_refused(
        &verifier,
        &named("ec", Algorithm::EdDSA, json!({})),
        "a key of another kind",
    )
    .await;
    for id in 0..100 {
        let random = named(&format!("random-{id}"), Algorithm::EdDSA, json!({}));
        assert_refused(&verifier, &random, id).await;
    }
    assert_eq!(issuer.asked(), 1, "a_05 one fetch within the cooldown");
    assert!(verifier.checker().check().await.is_ok());
}

#[tokio::test]
async fn ml_auth_11_a_19_a_rotation_is_seen_and_an_outage_is_not() {
    let issuer = Issuer::start().await;
    issuer.publishes("/keys", &key_set(&[("old", Algorithm::EdDSA)]));
    let mut options = jwks(&issuer);
    hasty(&mut options);
    let verifier = JwtVerifier::connect(options).await.unwrap();
    let (old, new) = (
        named("old", Algorithm::EdDSA, json!({})),
        named("new", Algorithm::EdDSA, json!({})),
    );
    assert!(verify(&verifier, &old).await.is_ok());

    issuer.publishes("/keys", &key_set(&[("new", Algorithm::EdDSA)]));
    until(&verifier, &new, |found| found.is_ok()).await;
    until(&verifier, &old, |found| {
        found.as_ref().is_err_and(|error| error.is_unauthorized())
    })
    .await;

    issuer.answers("/keys", answer("503 Service Unavailable", "text/plain", b""));
    until(&verifier, &old, |found| {
        found.as_ref().is_err_and(|error| error.is_temporary())
    })
    .await;
    assert!(verify(&verifier, &new).await.is_ok(), "the last good set stays");
    assert!(verifier.checker().check().await.unwrap_err().is_temporary());

    issuer.publishes("/keys", &json!({"keys": []}));
    let asked = issuer.asked();
    until(&verifier, &new, |_| issuer.asked() > asked + 2).await;
    assert!(
        verify(&verifier, &new).await.is_ok(),
        "a_17 an empty set replaces nothing"
    );
}

/// Verifies the token again and again until the outcome is as expected.
async fn until(verifier: &JwtVerifier, token: &str, expected: impl Fn(&Result<()>) -> bool + Send + Sync) {
    let seen = async {
        loop {
            let found = verifier.verify(&token.into()).await.map(|_| ());
            if expected(&found) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
}

#[tokio::test]
async fn a_17_answers_that_are_no_key_set_are_refused() {
    let good = key_set(&[("ed", Algorithm::EdDSA)]).to_string();
    let elsewhere = Issuer::start().await;
    elsewhere.answers("/keys", answer("200 OK", "application/json", good.as_bytes()));
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/keys\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        elsewhere.url
    );
    let padded = format!("{good}{}", " ".repeat(300 << 10));
    let endless = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{}",
        " ".repeat(50 << 20)
    );
    for (bad, what) in [
        (answer("200 OK", "text/html", b"<html></html>"), "HTML"),
        (
            answer("200 OK", "text/html", good.as_bytes()),
            "keys that say they are HTML",
        ),
        (
            answer("200 OK", "application/json", b"<html></html>"),
            "HTML that says it is JSON",
        ),
        (answer("200 OK", "application/json", b"{\"keys\":[]}"), "no keys"),
        (answer("200 OK", "application/json", padded.as_bytes()), "300 KiB"),
        (endless.into_bytes(), "50 MiB without a length"),
        (
            answer("404 Not Found", "application/json", good.as_bytes()),
            "404",
        ),
        (
            answer("401 Unauthorized", "application/json", good.as_bytes()),
            "401",
        ),
        (redirect.into_bytes(), "a redirect"),
    ] {
        let issuer = Issuer::start().await;
        issuer.answers("/keys", bad);
        let error = JwtVerifier::connect(jwks(&issuer)).await.unwrap_err();
        assert!(error.is_permanent(), "{what}: {error}");
    }
    assert_eq!(elsewhere.asked(), 0);

    for media_type in ["application/jwk-set+json", "Application/JSON; charset=utf-8"] {
        let issuer = Issuer::start().await;
        issuer.answers("/keys", answer("200 OK", media_type, good.as_bytes()));
        assert!(JwtVerifier::connect(jwks(&issuer)).await.is_ok(), "{media_type}");
    }
}

#[tokio::test]
async fn a_02_a_05_a_token_of_an_impossible_algorithm_looks_for_no_key() {
    let issuer = Issuer::start().await;
    issuer.publishes("/keys", &key_set(&[("ed", Algorithm::EdDSA)]));
    let mut options = jwks(&issuer);
    options.algorithms = vec![Own::EdDsa];
    hasty(&mut options);
    let verifier = JwtVerifier::connect(options).await.unwrap();
    issuer.answers("/keys", answer("503 Service Unavailable", "text/plain", b""));
    let unknown = named("other", Algorithm::EdDSA, json!({}));
    until(&verifier, &unknown, |found| {
        found.as_ref().is_err_and(|error| error.is_temporary())
    })
    .await;
    // What could be looked for is undecided now; what could not is refused.
    let secret = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let symmetric =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(json!({})), &secret).unwrap();
    assert_refused(&verifier, &symmetric, "HS256").await;
    assert_refused(&verifier, &named("other", Algorithm::ES256, json!({})), "ES256").await;
}

#[tokio::test]
async fn a_26_an_issuer_that_is_down_at_the_start_is_temporary() {
    let issuer = Issuer::start().await;
    issuer.answers("/keys", answer("500 Internal Server Error", "text/plain", b""));
    let down = JwtVerifier::connect(jwks(&issuer)).await.unwrap_err();
    assert!(down.is_temporary(), "{down}");

    issuer.answers("/keys", Vec::new());
    let mut options = jwks(&issuer);
    options.jwks.timeout = Duration::from_millis(50);
    let silent = JwtVerifier::connect(options).await.unwrap_err();
    assert!(silent.is_temporary(), "{silent}");

    let address = issuer.url.clone();
    drop(issuer);
    let gone = JwtOptions::new(
        KeySource::Jwks(format!("{address}/keys?canary=1")),
        ISSUER,
        AUDIENCE,
    );
    let gone = JwtVerifier::connect(gone).await.unwrap_err();
    let shown = format!("{} {gone:?}", gone.chain());
    assert!(gone.is_temporary() && !shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn ml_auth_1_keys_are_found_by_the_issuers_configuration() {
    let issuer = Issuer::start().await;
    let keys = format!("{}/keys", issuer.url);
    issuer.publishes("/keys", &key_set(&[("ed", Algorithm::EdDSA)]));
    let place = "/tenant/.well-known/openid-configuration";
    let url = format!("{}/tenant", issuer.url);
    let connect = || JwtVerifier::connect(JwtOptions::new(KeySource::Oidc, url.as_str(), AUDIENCE));

    issuer.publishes(
        place,
        &json!({"issuer": url, "jwks_uri": keys, "scopes_supported": ["openid"]}),
    );
    let verifier = connect().await.unwrap();
    let token = named("ed", Algorithm::EdDSA, json!({"iss": url}));
    let caller = verify(&verifier, &token).await.unwrap();
    assert_eq!(caller.issuer.as_deref(), Some(url.as_str()));
    assert_refused(
        &verifier,
        &named("ed", Algorithm::EdDSA, json!({})),
        "another issuer",
    )
    .await;

    for (bad, what) in [
        (
            json!({"issuer": format!("{url}/"), "jwks_uri": keys}),
            "a_20 a slash more",
        ),
        (
            json!({"issuer": "https://evil.example/", "jwks_uri": keys}),
            "a_20 another issuer",
        ),
        (
            json!({"issuer": url, "jwks_uri": "http://id.example.com/keys"}),
            "not safe",
        ),
        (
            json!({"issuer": url, "jwks_uri": "file:///etc/passwd"}),
            "no address",
        ),
        (json!({"issuer": url}), "no keys"),
        (json!({"jwks_uri": keys}), "no issuer"),
        (json!([]), "no configuration"),
    ] {
        issuer.publishes(place, &bad);
        let error = connect().await.unwrap_err();
        assert!(error.is_permanent(), "{what}: {error}");
    }
    issuer.answers(place, answer("502 Bad Gateway", "text/plain", b""));
    assert!(connect().await.unwrap_err().is_temporary());

    for bad in [
        "id.example.com",
        "http://id.example.com",
        "https://id.example.com/?x=1",
    ] {
        let options = JwtOptions::new(KeySource::Oidc, bad, AUDIENCE);
        assert!(
            JwtVerifier::connect(options)
                .await
                .unwrap_err()
                .is_invalid_input(),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn published_keys_that_fit_no_accepted_algorithm_are_no_keys() {
    let issuer = Issuer::start().await;
    issuer.publishes("/keys", &key_set(&[("ed", Algorithm::EdDSA)]));
    let mut options = jwks(&issuer);
    options.algorithms = vec![Own::Rs256];
    assert!(JwtVerifier::connect(options).await.unwrap_err().is_permanent());
}

#[tokio::test]
async fn times_of_published_keys_at_odds_are_refused() {
    let issuer = Issuer::start().await;
    type Change = fn(&mut JwtOptions);
    let changes: [Change; 5] = [
        |options| options.jwks.refresh = Duration::ZERO,
        |options| options.jwks.cooldown = Duration::from_secs(3600),
        |options| options.jwks.keep = Duration::from_secs(1),
        |options| options.jwks.timeout = Duration::from_secs(600),
        |options| options.keys = KeySource::Jwks("http://id.example.com/keys".into()),
    ];
    for (position, change) in changes.into_iter().enumerate() {
        let mut options = jwks(&issuer);
        change(&mut options);
        assert!(
            JwtVerifier::connect(options)
                .await
                .unwrap_err()
                .is_invalid_input(),
            "{position}"
        );
    }
    assert_eq!(issuer.asked(), 0);
}
