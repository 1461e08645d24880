//! What a token says, once its signature is known to be good.
//!
//! `jsonwebtoken` has checked `exp`, `nbf`, `iss`, `aud` and that `sub` is there. This is what it does not check.

use cqi_core::auth::{AuthContext, AuthType};
use serde_json::{Map, Value};

use crate::JwtOptions;

pub(crate) type Claims = Map<String, Value>;

/// What a subject begins with when it is a service (AUTH-10).
const SERVICE: &str = "service:";

/// Checks the claims. The error says why, in words that hold nothing of the token.
pub(crate) fn check(claims: &Claims, options: &JwtOptions, now: u64) -> Result<(), &'static str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // A list of issuers would pass if any of them fits, and then the identity would have no issuer.
    if text("iss") != Some(&options.issuer) {
        return Err("the issuer is not the expected one");
    }
    lifetime(claims, options, now)?;
    purpose(claims, options)?;
    let missing = |name: &String| claims.get(name).is_none_or(Value::is_null);
    if options.required_claims.iter().any(missing) {
        return Err("a required claim is missing");
    }
    if !options.checks.accept(claims) {
        return Err("a check of the claims refused it");
    }
    Ok(())
}

/// A token that was made to last for years is refused, as is one from the future.
fn lifetime(claims: &Claims, options: &JwtOptions, now: u64) -> Result<(), &'static str> {
    let leeway = options.leeway.as_secs_f64();
    let now = now as f64;
    let expiry = date(claims, "exp")?.ok_or("there is no expiry")?;
    let issued = date(claims, "iat")?.unwrap_or(now);
    if issued > now + leeway {
        return Err("it was issued in the future");
    }
    if expiry - issued > options.max_lifetime.as_secs_f64() + leeway {
        return Err("it is valid for longer than is allowed");
    }
    Ok(())
}

fn date(claims: &Claims, name: &str) -> Result<Option<f64>, &'static str> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if seconds >= 0.0 => Ok(Some(seconds)),
            _ => Err("a date is not a number of seconds"),
        },
    }
}

/// Only a token that gives access counts, not one that tells a client who logged in.
fn purpose(claims: &Claims, options: &JwtOptions) -> Result<(), &'static str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if let Some(wanted) = &options.token_use {
        return match text("token_use") == Some(wanted) {
            true => Ok(()),
            false => Err("the claim token_use is not the expected one"),
        };
    }
    // The ways in which common issuers mark ID and refresh tokens.
    let marked = claims.contains_key("at_hash")
        || claims.contains_key("c_hash")
        || matches!(text("token_use"), Some("id" | "refresh"))
        || matches!(text("typ"), Some("ID" | "Refresh" | "Offline"));
    if marked {
        Err("it is no access token")
    } else {
        Ok(())
    }
}

/// The caller a token names. Its identity is the issuer and the subject together.
pub(crate) fn caller(claims: Claims, options: &JwtOptions) -> Result<AuthContext, &'static str> {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.contains(char::is_control) {
        return Err("the subject is not a text");
    }
    let caller = AuthContext::new(AuthType::Jwt).with_issuer(&options.issuer);
    let caller = match subject.strip_prefix(SERVICE) {
        Some("") => return Err("the subject names no service"),
        Some(service) => caller.with_service(service),
        None => caller.with_user(subject),
    };
    Ok(caller.with_claims(claims))
}
