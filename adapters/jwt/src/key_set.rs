//! Keys ready for use.

use cqi_core::Result;
use jsonwebtoken::{Algorithm as Library, DecodingKey, Validation};

use crate::{JwtOptions, PublicKey};

/// The most keys that are tried for one token, so that a token cannot cost many signatures.
pub(crate) const MAX_TRIES: usize = 4;

/// A key with everything `jsonwebtoken` needs, made once.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<Box<str>>,
    pub(crate) decoding: DecodingKey,
    pub(crate) validation: Validation,
}

/// The keys of an issuer. Few, so they are in a list.
#[derive(Debug)]
pub(crate) struct KeySet(Vec<Key>);

impl KeySet {
    /// Prepares the keys that can verify something under the options; the others are left out.
    pub(crate) fn new(keys: Vec<PublicKey>, options: &JwtOptions) -> Self {
        let prepare = |key: PublicKey| {
            let algorithms = key.algorithms(&options.algorithms);
            (!algorithms.is_empty()).then(|| Key {
                id: key.id().map(Box::from),
                validation: validation(algorithms.into_iter().map(|a| a.library()).collect(), options),
                decoding: key.into_decoding(),
            })
        };
        Self(keys.into_iter().filter_map(prepare).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys a token of this key id and algorithm may be signed with: which algorithm a key takes is the key's own
    /// affair.
    pub(crate) fn fitting(&self, id: Option<&str>, algorithm: Library) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| {
            let named = match (id, &key.id) {
                (Some(id), Some(own)) => id == &**own,
                _ => true,
            };
            named && key.validation.algorithms.contains(&algorithm)
        })
    }
}

/// What `jsonwebtoken` checks. Its defaults check far less: no issuer, no audience unless there is one, no `nbf`.
fn validation(algorithms: Vec<Library>, options: &JwtOptions) -> Validation {
    let mut validation = Validation::new(Library::EdDSA);
    validation.algorithms = algorithms;
    validation.leeway = options.leeway.as_secs();
    validation.validate_nbf = true;
    validation.set_issuer(&[&options.issuer]);
    validation.set_audience(&options.audiences);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation
}

/// Checks keys that were given, of which none may be left out silently.
pub(crate) fn given(keys: Vec<PublicKey>, options: &JwtOptions) -> Result<KeySet> {
    use cqi_core::Error;
    let unnamed = keys.iter().filter(|key| key.id().is_none()).count();
    let long = |key: &PublicKey| {
        key.id()
            .is_some_and(|id| id.is_empty() || id.len() > crate::key::MAX_KEY_ID)
    };
    if keys.is_empty() {
        Err(Error::invalid_input("tokens need at least one public key"))
    } else if unnamed > MAX_TRIES {
        Err(Error::invalid_input("at most 4 public keys may be without an id"))
    } else if keys.iter().any(long) {
        Err(Error::invalid_input(
            "the id of a public key must have 1 to 128 bytes",
        ))
    } else if keys
        .iter()
        .any(|key| key.algorithms(&options.algorithms).is_empty())
    {
        Err(Error::invalid_input("a public key fits none of its algorithms"))
    } else {
        Ok(KeySet::new(keys, options))
    }
}
