//! Whether the cryptography works, asked before the first token.

use std::panic::catch_unwind;

use cqi_core::{Error, Result};
use jsonwebtoken::{Algorithm, DecodingKey, crypto, errors};

/// Signatures made by another library; the private keys are gone.
const MESSAGE: &[u8] = b"cqi self-test";
const RSA_MODULUS: &str = "jlyT7RmAUoUu0dtsdGfg_iJUf4_eFdB7QnSt-3GvjFZBsWtwkiuDoqTpB7GLqLp6LjYfZ4QKMr3I-GVaDBpC7ih1elJSd5j1reVJV_wHbRCNuZxf7Kz42BnDfTMgUoa1IeXamYzG2gRvwWQXwuThsIx1XL7Aop74c8mq9Hi1poRMCyRXxNtPuY0eQvOrMVN-XJfqiRMSHFH7j1QKOfU17qZxtRcDBLLGdNZbrTRqGnnMOpfj0JYrHkdPlPL8Gu4Z8fgjryVEWC-hUG-L5qcIJy2DxBmnobCye4KiKEsX2cCO9_Gf6XFCiioC9Z21s_NXe6XBXn8loJ75ciEq0VqVBQ";
const RSA: &str = "W5M80TzSgDCObfhnLJrKMV_0Joz4JCfE1IFMp2YF6hC-iUcc23L7czC91X2ftSbYenJnftQLBUzv8nqTeAWC6_sOY5SLhCs0s1YpHI9lCy80zBtvx-QXZerpDs9JXPWHGoWj4nn3gfx6o5yItyFsSIM-RtuRBGfA80eFTckz67cxRNXPE9-UZIhdWCXblz3RYuYxNLCmt1PgV-390tDrqxguMF9ZN-8K7i__LPi7WCu5l0SMWgRMynQunHJfOoA89kKQpsjrY0_Nl0jNTWaLowzTPEl2-IAY3PqXFsp7R2UFdwoUovssRIumRqoTqY9CaonVBrxgv5SQ9gjGW8XWpA";
const EC_X: &str = "uikn1hfrn-wOy8xKxKNidRRDQTF4hV42uBNeJOKcF0A";
const EC_Y: &str = "xVxIIJc35CzEZ_3RPA7BrJgjuqZ_UxAttMEOslzyq8o";
const EC: &str = "pX-LcanO2CXUUNUN74jRmtX9yckjzcGh5Y2LwLZf1Ww5SfEQMTLb8g5RCf0YU8SyZ5XUuh_efcBN_KIz0rUkdw";
const ED_X: &str = "guOFO3pGNOIJv5Q8EFrMNCNy9aqut-rxI2q55KjfPE8";
const ED: &str = "5DwJfcbHR39uPGpfl1mmAkXO0j5CkP4IwM4sv5DV5qq5pYTUJW3mb2Fe1q8TSCwEIPYcwYTojb9RR6QS92MICQ";

/// Verifies one signature of each kind, and that it does not fit another message.
///
/// # Errors
/// `Permanent` when it does not work, a panic of the library included.
pub(crate) fn run() -> Result<()> {
    // With the features of two backends, or of none, the library would panic at its first use; naming one prevents that.
    // A provider that the application has installed before stays.
    let _ = crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
    match catch_unwind(verifies) {
        Ok(Ok(true)) => Ok(()),
        _ => {
            Err(Error::permanent("the cryptography for tokens does not work").with_operation("jwt.self_test"))
        }
    }
}

fn verifies() -> errors::Result<bool> {
    let cases = [
        (
            Algorithm::RS256,
            DecodingKey::from_rsa_components(RSA_MODULUS, "AQAB")?,
            RSA,
        ),
        (Algorithm::ES256, DecodingKey::from_ec_components(EC_X, EC_Y)?, EC),
        (Algorithm::EdDSA, DecodingKey::from_ed_components(ED_X)?, ED),
    ];
    let mut works = true;
    for (algorithm, key, signature) in &cases {
        works &= crypto::verify(signature, MESSAGE, key, *algorithm)?;
        works &= !crypto::verify(signature, b"another message", key, *algorithm)?;
    }
    Ok(works)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_28_the_cryptography_is_tested() {
        run().unwrap();
        run().unwrap();
    }
}
