//! API keys.

use std::{collections::HashMap, fmt};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{AuthContext, AuthType, Verifier, refused};
use crate::{Error, Result, secret::Secret};

/// The shortest key that is accepted, in bytes.
const MIN_KEY: usize = 16;
/// The longest name of a key, in bytes.
const MAX_NAME: usize = 64;

type Hash = [u8; 32];

/// A set of API keys, any of which is accepted (AUTH-4). Only their SHA-256 hashes are kept: enough for keys of high
/// entropy, too weak for passwords.
///
/// A key is found by its hash, and hashes are compared in constant time, so an answer's time says nothing about the
/// keys (A-21).
///
/// ```
/// # use cqi_core::auth::{ApiKeys, Verifier};
/// # async fn check() -> cqi_core::Result<()> {
/// let keys = ApiKeys::parse(["billing:3f1b0c2e9a7d4865".into(), "an-unnamed-key-2481".into()])?;
/// let caller = keys.verify(&"3f1b0c2e9a7d4865".into()).await?;
/// assert_eq!(caller.service_id.as_deref(), Some("billing"));
/// # Ok(())
/// # }
/// ```
pub struct ApiKeys {
    /// Hashes of keys, each with its name.
    names: HashMap<Hash, Option<Box<str>>>,
}

impl ApiKeys {
    /// Reads `key` and `name:key` entries. A name may have several keys, so that they can be changed one by one.
    ///
    /// # Errors
    /// `InvalidInput`, naming the entry by its position and never showing it, for a key shorter than 16 bytes or with
    /// characters other than visible ASCII, a name that is not 1 to 64 of `[A-Za-z0-9._-]`, and a key given twice.
    pub fn parse(entries: impl IntoIterator<Item = Secret>) -> Result<Self> {
        let mut names = HashMap::new();
        for (position, entry) in entries.into_iter().enumerate() {
            let wrong = |rule| {
                Error::invalid_input(format!("API key {} {rule}", position + 1))
                    .with_operation("auth.api_keys")
            };
            let (name, key) = match entry.expose().split_once(':') {
                Some((name, key)) => (Some(name), key),
                None => (None, entry.expose()),
            };
            if key.len() < MIN_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("must be at least 16 visible ASCII characters"));
            }
            if name.is_some_and(|name| !is_name(name)) {
                return Err(wrong("must have a name of 1 to 64 characters of [A-Za-z0-9._-]"));
            }
            if names.insert(hash(key), name.map(Box::from)).is_some() {
                return Err(wrong("was given before"));
            }
        }
        Ok(Self { names })
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

#[async_trait]
impl Verifier for ApiKeys {
    async fn verify(&self, credential: &Secret) -> Result<AuthContext> {
        let given = hash(credential.expose());
        let (known, name) = self.names.get_key_value(&given).ok_or_else(refused)?;
        if !bool::from(known.ct_eq(&given)) {
            return Err(refused());
        }
        let caller = AuthContext::new(AuthType::ApiKey);
        Ok(match name {
            Some(name) => caller.with_service(&**name),
            None => caller,
        })
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("count", &self.names.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn keys(entries: &[&str]) -> Result<ApiKeys> {
        ApiKeys::parse(entries.iter().map(|entry| Secret::from(*entry)))
    }

    #[tokio::test]
    async fn auth_4_any_of_several_keys_is_accepted_and_names_its_service() {
        let keys = keys(&[
            "billing:0123456789abcdef",
            "billing:another-key-of-it",
            "nameless-key-1234",
        ])
        .unwrap();
        for (key, service) in [
            (KEY, Some("billing")),
            ("another-key-of-it", Some("billing")),
            ("nameless-key-1234", None),
        ] {
            let caller = keys.verify(&key.into()).await.unwrap();
            assert_eq!(caller.service_id.as_deref(), service);
            assert_eq!(caller.auth_type, AuthType::ApiKey);
        }
    }

    #[tokio::test]
    async fn a_21_what_is_nearly_a_key_is_refused_alike() {
        let keys = keys(&[KEY]).unwrap();
        let nearly = [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
            "0123456789аbcdef",
            "x",
        ];
        for key in nearly {
            let error = keys.verify(&key.into()).await.unwrap_err();
            assert_eq!(error.to_string(), refused().to_string(), "{key}");
        }
    }

    #[test]
    fn a_bad_entry_is_named_by_its_position_and_not_shown() {
        for bad in [
            "short",
            "name:short",
            ":0123456789abcdef",
            "na me:0123456789abcdef",
            "0123456789\tabcdef",
            KEY,
        ] {
            let error = keys(&[KEY, bad]).unwrap_err().to_string();
            assert!(error.contains("API key 2") && !error.contains(bad), "{error}");
        }
        assert!(!format!("{:?}", keys(&[KEY]).unwrap()).contains(KEY));
    }
}
