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
mod tests;
