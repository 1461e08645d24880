//! OpenID Connect Discovery 1.0: where an issuer keeps its keys.

use cqi_core::{Error, Result};
use reqwest::Url;
use serde::Deserialize;

use crate::http::{Fetcher, address};

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

/// Reads where the issuer's keys are (ML-AUTH-1).
///
/// # Errors
/// `Permanent` when the document is another issuer's or points to a place that is not safe; `Temporary` when it
/// cannot be had.
pub(crate) async fn discover(fetcher: &Fetcher, issuer: &str) -> Result<Url> {
    let root = address(issuer)?;
    if root.query().is_some() {
        return Err(Error::invalid_input("an issuer's URL must have no query").with_operation("jwt.connect"));
    }
    let place = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let document = fetcher.json(&address(&place)?).await?;
    let found: Configuration = serde_json::from_slice(&document)
        .map_err(|_| Error::permanent("the document of the issuer is no OpenID configuration"))?;
    if found.issuer != issuer {
        return Err(
            Error::permanent("the OpenID configuration is another issuer's").with_context("issuer", issuer)
        );
    }
    let keys = address(&found.jwks_uri)
        .map_err(|error| Error::permanent("the issuer's keys are at no safe place").with_source(error))?;
    // An issuer out there has no say over what is asked on this machine.
    if root.scheme() == "https" && keys.scheme() != "https" {
        return Err(Error::permanent("the issuer's keys are at no safe place"));
    }
    Ok(keys)
}
