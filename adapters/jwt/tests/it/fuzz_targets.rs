//! What must hold for any bytes where a token or a key is expected. `fuzz/` gives these functions to libFuzzer, the test
//! beside it to a mutator of our own.

#![allow(dead_code)] // each program of `fuzz/` calls one of them

use std::{pin::pin, sync::LazyLock, task};

use cqi_core::auth::refused;
use cqi_jwt::{JwtVerifier, load_public_key_from_pem};
use serde_json::json;

use crate::token::{AUDIENCE, ISSUER, date, options, pem, public, raw, token, verify};

static VERIFIER: LazyLock<JwtVerifier> =
    LazyLock::new(|| now(JwtVerifier::connect(options([public(pem!("ed25519.pub"))]))).unwrap());
static TOKEN: LazyLock<String> = LazyLock::new(|| token(json!({"exp": date(24 * 3600)})));

/// With given keys nothing is waited for, so one poll is enough.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut task::Context::from_waker(task::Waker::noop())) {
        task::Poll::Ready(value) => value,
        task::Poll::Pending => panic!("it waits"),
    }
}

/// A token, where `GOOD` stands for a valid one: only that one is accepted.
pub(crate) fn any_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace("GOOD", &TOKEN);
    match now(verify(&VERIFIER, &text)) {
        Ok(_) => assert_eq!(text, *TOKEN),
        Err(error) => assert_eq!(error.to_string(), refused().to_string()),
    }
}

/// Header, a line break and claims, signed with the right key, where `NOW` stands for the current second: what is accepted
/// keeps every rule.
pub(crate) fn signed_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace("NOW", &date(0).to_string());
    let (header, claims) = text.split_once('\n').unwrap_or((r#"{"alg":"EdDSA"}"#, &text));
    match now(verify(&VERIFIER, &raw(header, claims))) {
        Err(error) => assert_eq!(error.to_string(), refused().to_string()),
        Ok(caller) => {
            let header: serde_json::Value = serde_json::from_str(header).unwrap();
            assert!(header["alg"] == "EdDSA" && header["crit"].is_null(), "{header}");
            let number = |claim: &str| caller.claims.get(claim).and_then(serde_json::Value::as_f64);
            let (exp, now) = (number("exp").unwrap(), date(0) as f64);
            assert!(exp >= now - 62.0 && exp <= now + 86_462.0, "{exp}");
            assert!(number("nbf").is_none_or(|nbf| nbf <= now + 62.0));
            assert!(number("iat").is_none_or(|iat| iat <= now + 62.0));
            assert_eq!(caller.claims["iss"], ISSUER);
            assert_eq!(caller.issuer.as_deref(), Some(ISSUER));
            let audience = &caller.claims["aud"];
            let listed = audience
                .as_array()
                .is_some_and(|list| list.contains(&AUDIENCE.into()));
            assert!(audience == AUDIENCE || listed, "{audience}");
            let names = [&caller.user_id, &caller.service_id];
            let names: Vec<_> = names.into_iter().flatten().collect();
            assert!(names.len() == 1 && !names[0].is_empty() && !names[0].contains(char::is_control));
        }
    }
}

/// A PEM text is a key or an error that says so.
pub(crate) fn pem_key(data: &[u8]) {
    if let Err(error) = load_public_key_from_pem(&String::from_utf8_lossy(data)) {
        assert!(error.is_invalid_input());
    }
}
