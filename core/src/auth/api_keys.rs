//! API keys.

use std::{collections::HashMap, fmt};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{AuthContext, AuthType, MAX_CREDENTIAL, Verifier, refused};
use crate::{Error, Result, secret::Secret};

/// The shortest key that is accepted, in bytes.
const MIN_KEY: usize = 16;
/// The fewest different characters of a key: a random one of 16 hexadecimal digits has fewer once in two million.
const MIN_VARIETY: usize = 5;
/// The longest name of a key, in bytes.
const MAX_NAME: usize = 64;

type Hash = [u8; 32];

/// A set of API keys, any of which is accepted (AUTH-4). Only their SHA-256 hashes are kept: enough for keys of high
/// entropy, too weak for passwords. Keys should be random, for example 32 hexadecimal digits. An entry may be the hash
/// itself, `sha256:` and 64 hexadecimal digits, so that configuration holds no key: `printf %s "$KEY" | sha256sum`.
///
/// A key made as `ID.SECRET`, with exactly one dot, has a public id: wrong keys are counted by it, see
/// [`Authenticator::new`](super::Authenticator::new). The secret has to be enough by itself.
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
    /// Reads entries `key` and `name:key`, either with `sha256:` and the key's hash in place of the key. A name may have
    /// several keys, so that they can be changed one by one. A key without a name has no colon.
    ///
    /// # Errors
    /// `InvalidInput`, naming the entry by its position and never showing it, for a key that is shorter than 16 bytes, longer
    /// than [`MAX_CREDENTIAL`], has fewer than 5 different characters or others than visible ASCII, a hash that is none, a
    /// name that is not 1 to 64 of `[A-Za-z0-9._-]`, and a key given twice.
    pub fn parse(entries: impl IntoIterator<Item = Secret>) -> Result<Self> {
        let mut names = HashMap::new();
        for (position, entry) in entries.into_iter().enumerate() {
            let wrong = |rule| {
                Error::invalid_input(format!("API key {} {rule}", position + 1))
                    .with_operation("auth.api_keys")
            };
            let (name, key) = match entry.expose().split_once(':') {
                Some((name, key)) if name != HASHED => (Some(name), key),
                _ => (None, entry.expose()),
            };
            if name.is_some_and(|name| !is_name(name)) {
                return Err(wrong("must have a name of 1 to 64 characters of [A-Za-z0-9._-]"));
            }
            let hash = match key.split_once(':') {
                Some((HASHED, digits)) => parse_hash(digits)
                    .ok_or_else(|| wrong("must have 64 hexadecimal digits after sha256:"))?,
                _ if is_key(key) => hash(key),
                _ => {
                    return Err(wrong(
                        "must be at least 16 visible ASCII characters, 5 of them different",
                    ));
                }
            };
            if names.insert(hash, name.map(Box::from)).is_some() {
                return Err(wrong("was given before"));
            }
        }
        Ok(Self { names })
    }
}

/// What stands before the hash of a key.
const HASHED: &str = "sha256";

fn is_key(key: &str) -> bool {
    // The id of a key made as `ID.SECRET` is public, so the rest must be enough.
    let secret = key.split_once('.').filter(|(_, secret)| !secret.contains('.'));
    let secret = secret.map_or(key, |(_, secret)| secret);
    let mut seen = [false; 256];
    secret.bytes().for_each(|byte| seen[usize::from(byte)] = true);
    secret.len() >= MIN_KEY
        && key.len() <= MAX_CREDENTIAL
        && key.bytes().all(|byte| byte.is_ascii_graphic())
        && seen.into_iter().filter(|seen| *seen).count() >= MIN_VARIETY
}

fn parse_hash(digits: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    let pairs = digits.as_bytes().chunks_exact(2);
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
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
        // No key is longer; hashing more would only serve whoever sends it.
        if credential.expose().len() > MAX_CREDENTIAL {
            return Err(refused());
        }
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
            " 0123456789abcdef",
            "0123456789abcdef\n",
            "0123456789abcdef\0",
            ":0123456789abcdef",
            &KEY.repeat(1000),
        ];
        for key in nearly {
            let error = keys.verify(&key.into()).await.unwrap_err();
            assert_eq!(error.to_string(), refused().to_string(), "{key}");
        }
    }

    /// The SHA-256 of [`KEY`], by another program.
    const KEY_HASH: &str = "sha256:9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f";

    #[tokio::test]
    async fn a_21_a_key_may_be_given_as_its_hash_which_is_no_key_itself() {
        let named = format!("billing:{}", KEY_HASH.replace("9f9f", "9F9F"));
        for (entry, service) in [(KEY_HASH, None), (named.as_str(), Some("billing"))] {
            let keys = keys(&[entry]).unwrap();
            assert_eq!(
                keys.verify(&KEY.into()).await.unwrap().service_id.as_deref(),
                service
            );
            for wrong in [entry, KEY_HASH, KEY_HASH.trim_start_matches("sha256:")] {
                assert!(
                    keys.verify(&wrong.into()).await.unwrap_err().is_unauthorized(),
                    "{wrong}"
                );
            }
        }
        assert!(
            keys(&[KEY, KEY_HASH])
                .unwrap_err()
                .to_string()
                .contains("given before")
        );
    }

    #[tokio::test]
    async fn a_25_a_key_may_have_an_id_and_its_secret_is_enough_by_itself() {
        let keys = keys(&["billing:id-7.0123456789abcdef", "a.b.0123456789abcdef"]).unwrap();
        let caller = keys.verify(&"id-7.0123456789abcdef".into()).await.unwrap();
        assert_eq!(caller.service_id.as_deref(), Some("billing"));
        assert!(keys.verify(&KEY.into()).await.is_err());
    }

    #[test]
    fn a_bad_entry_is_named_by_its_position_and_not_shown() {
        for bad in [
            "short",
            "a-long-public-id.secret",
            "i\u{e9}d.0123456789abcdef",
            "name:short",
            ":0123456789abcdef",
            "na me:0123456789abcdef",
            "0123456789\tabcdef",
            "aaaaaaaaaaaaaaaa",
            "name:abababababababab",
            &KEY.repeat(600),
            "sha256:0123456789abcdef",
            &KEY_HASH[..70],
            &KEY_HASH.replace('f', "g"),
            &format!("a:b:{}", &KEY_HASH[7..]).replace('f', "é"),
            KEY,
        ] {
            let error = keys(&[KEY, bad]).unwrap_err().to_string();
            assert!(error.contains("API key 2") && !error.contains(bad), "{error}");
        }
        assert!(!format!("{:?}", keys(&[KEY]).unwrap()).contains(KEY));
    }
}
