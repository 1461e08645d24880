//! Verification of JSON Web Tokens for cqi services.
//!
//! [`JwtVerifier`] is a [`Verifier`](cqi_core::auth::Verifier): the layers of HTTP, gRPC and events take it. Its keys are
//! given, as here, or published by the issuer ([`KeySource`]). Which tokens it accepts is in [`JwtOptions`].
//!
//! ```
//! use cqi_core::auth::Verifier;
//! use cqi_jwt::{JwtOptions, JwtVerifier, KeySource, load_public_key_from_pem};
//!
//! # async fn check(pem: &str) -> cqi_core::Result<()> {
//! let key = load_public_key_from_pem(pem)?;
//! let options = JwtOptions::new(KeySource::Given(vec![key]), "https://id.example.com/", "positions");
//! let verifier = JwtVerifier::connect(options).await?;
//! let caller = verifier.verify(&"eyJhbGciOi…".into()).await?;
//! # let _ = caller; Ok(()) }
//! ```

mod algorithm;
mod cached;
mod claims;
mod http;
mod jwks;
mod key;
mod key_set;
mod oidc;
mod options;
mod self_test;
mod verifier;

pub use self::{
    algorithm::Algorithm,
    key::{PublicKey, load_public_key_from_pem},
    options::{JwksOptions, JwtOptions, KeySource},
    verifier::JwtVerifier,
};

// The examples of the document are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/authentication.md")]
struct Document;
