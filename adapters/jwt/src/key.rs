//! Public keys: read, checked, and never stronger than they look.

use std::path::Path;

use cqi_core::{Error, Result};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, DecodingKeyKind, crypto::rust_crypto::DEFAULT_PROVIDER};
use tokio::io::AsyncReadExt as _;

use crate::Algorithm;

/// The bits of RSA keys that are accepted. Shorter ones are weak, longer ones the library refuses.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The longest PEM file, in bytes.
const MAX_PEM: u64 = 64 << 10;
/// The longest key id, in bytes.
pub(crate) const MAX_KEY_ID: usize = 128;

/// What kind of key it is, which says what it can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeyType {
    /// What it can verify. For RSA the first three are what it is used for when nothing is said (OP-25).
    const fn algorithms(self) -> &'static [Algorithm] {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa => &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
            Self::P256 => &[Es256],
            Self::P384 => &[Es384],
            Self::Ed25519 => &[EdDsa],
        }
    }
}

/// The public key of an issuer: RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519.
///
/// Without an id it is tried for tokens of any key id; without an algorithm it verifies the usual ones of its kind: RS256,
/// RS384 and RS512, or ES256, or ES384, or EdDSA.
#[derive(Debug, Clone)]
pub struct PublicKey {
    key_type: KeyType,
    id: Option<String>,
    algorithm: Option<Algorithm>,
    decoding: DecodingKey,
}

/// Reads a public key in PEM form (AUTH-9).
///
/// # Errors
/// `InvalidInput` when the text is not exactly one `PUBLIC KEY` or `RSA PUBLIC KEY`, or the key is none that
/// [`PublicKey`] takes. Private keys are refused: they have no place in a service that verifies.
pub fn load_public_key_from_pem(pem: &str) -> Result<PublicKey> {
    let text = match labels(pem).as_slice() {
        ["PUBLIC KEY" | "RSA PUBLIC KEY"] => pem.as_bytes(),
        [one] if one.ends_with("PRIVATE KEY") => {
            return Err(Error::invalid_input(
                "a public key is needed, this is a private one",
            ));
        }
        [_] => {
            return Err(Error::invalid_input(
                "a PEM text of a public key begins with PUBLIC KEY",
            ));
        }
        [] => return Err(Error::invalid_input("this is no PEM text of a public key")),
        _ => return Err(Error::invalid_input("a PEM text must hold one public key only")),
    };
    DecodingKey::from_rsa_pem(text)
        .or_else(|_| DecodingKey::from_ec_pem(text))
        .or_else(|_| DecodingKey::from_ed_pem(text))
        .map_err(|_| "the PEM text holds no RSA, ECDSA or Ed25519 public key")
        .and_then(PublicKey::checked)
        .map_err(Error::invalid_input)
}

/// What stands between `-----BEGIN ` and `-----`.
fn labels(pem: &str) -> Vec<&str> {
    fn label(line: &str) -> Option<&str> {
        line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")
    }
    pem.lines().filter_map(label).collect()
}

impl PublicKey {
    /// Reads a PEM file, as [`load_public_key_from_pem`] reads a text.
    ///
    /// # Errors
    /// `InvalidInput` that names the file, when it cannot be read, is longer than 64 KiB or holds no such key.
    pub async fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let named = |error: Error| error.with_context("file", path.display());
        let unreadable = |error| named(Error::invalid_input("cannot read the public key").with_source(error));
        // Opening a pipe would wait for its writer.
        if !tokio::fs::metadata(path).await.map_err(unreadable)?.is_file() {
            return Err(named(Error::invalid_input("the public key is in no file")));
        }
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut text = String::new();
        file.take(MAX_PEM + 1)
            .read_to_string(&mut text)
            .await
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_PEM {
            return Err(named(Error::invalid_input(
                "a file of a public key has at most 64 KiB",
            )));
        }
        load_public_key_from_pem(&text).map_err(named)
    }

    /// Uses it only for tokens of this key id (`kid`), at most 128 bytes.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Uses it with this algorithm only.
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What it may verify, where `stated` are the algorithms the verifier is confined to, if any.
    pub(crate) fn algorithms(&self, stated: &[Algorithm]) -> Vec<Algorithm> {
        let possible = self.key_type.algorithms();
        let usual = &possible[..possible.len().min(3)];
        let own = match &self.algorithm {
            Some(own) if possible.contains(own) => std::slice::from_ref(own),
            Some(_) => &[],
            None if stated.is_empty() => usual,
            None => possible,
        };
        let mut own = own.to_vec();
        own.retain(|algorithm| stated.is_empty() || stated.contains(algorithm));
        own
    }

    pub(crate) fn into_decoding(self) -> DecodingKey {
        self.decoding
    }

    /// Checks the key itself, so that no use of it fails or panics later. Everything else is for the signature to show.
    pub(crate) fn checked(decoding: DecodingKey) -> Result<Self, &'static str> {
        let key_type = match decoding.family() {
            AlgorithmFamily::Rsa => check_rsa(&decoding).map(|()| KeyType::Rsa),
            AlgorithmFamily::Ec => match point(&decoding) {
                [4, rest @ ..] if rest.len() == 64 => Ok(KeyType::P256),
                [4, rest @ ..] if rest.len() == 96 => Ok(KeyType::P384),
                _ => Err("an ECDSA key must be on P-256 or P-384"),
            },
            // The library cuts 32 bytes out of what is there, and panics when there is less.
            AlgorithmFamily::Ed if point(&decoding).len() == 32 => Ok(KeyType::Ed25519),
            AlgorithmFamily::Ed => Err("an EdDSA key must be an Ed25519 key"),
            AlgorithmFamily::Hmac => Err("a symmetric key is no public key"),
        }?;
        let first = key_type.algorithms()[0].library();
        (DEFAULT_PROVIDER.verifier_factory)(&first, &decoding)
            .map_err(|_| "the key is no point on its curve")?;
        Ok(Self {
            key_type,
            id: None,
            algorithm: None,
            decoding,
        })
    }
}

fn point(key: &DecodingKey) -> &[u8] {
    key.try_get_as_bytes().unwrap_or_default()
}

fn check_rsa(key: &DecodingKey) -> Result<(), &'static str> {
    let (modulus, exponent) = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n.clone(), e.clone()),
        DecodingKeyKind::SecretOrDer(der) => {
            (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der)
                .map_err(|_| "the RSA key is malformed")?
        }
    };
    let bits = |number: &[u8]| match number.iter().position(|byte| *byte != 0) {
        Some(first) => (number.len() - first) * 8 - number[first].leading_zeros() as usize,
        None => 0,
    };
    if !RSA_BITS.contains(&bits(&modulus)) {
        return Err("an RSA key must have 2048 to 4096 bits");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    // With an exponent of 1 anything is signed.
    if !(2..=32).contains(&bits(&exponent)) || !odd(&exponent) || !odd(&modulus) {
        return Err("the RSA key is malformed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            include_str!(concat!("../tests/it/keys/", $name, ".pem"))
        };
    }

    #[test]
    fn auth_9_public_keys_are_read_and_say_what_they_verify() {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Rs256, Rs384, Rs512};
        for (pem, usual) in [
            (pem!("rsa.pub"), &[Rs256, Rs384, Rs512][..]),
            (pem!("rsa.pkcs1.pub"), &[Rs256, Rs384, Rs512]),
            (pem!("p256.pub"), &[Es256]),
            (pem!("p384.pub"), &[Es384]),
            (pem!("ed25519.pub"), &[EdDsa]),
        ] {
            assert_eq!(load_public_key_from_pem(pem).unwrap().algorithms(&[]), usual);
        }
        let rsa = load_public_key_from_pem(pem!("rsa.pub")).unwrap();
        assert_eq!(
            rsa.algorithms(&[Es256, Ps256]),
            [Ps256],
            "what is stated confines"
        );
        let narrow = rsa.clone().with_algorithm(Rs384);
        assert_eq!(narrow.algorithms(&[]), [Rs384]);
        assert_eq!(narrow.algorithms(&[Rs256]), []);
        assert_eq!(rsa.with_algorithm(EdDsa).algorithms(&[]), []);
    }

    #[test]
    fn a_17_keys_that_are_weak_private_or_something_else_are_refused() {
        let two = [pem!("rsa.pub"), pem!("p256.pub")].concat();
        let cut = &pem!("rsa.pub")[..200];
        for (bad, why) in [
            (pem!("rsa1024.pub"), "2048"),
            (pem!("rsa"), "private"),
            (pem!("ed25519"), "private"),
            (pem!("certificate"), "PUBLIC KEY"),
            (pem!("secp256k1.pub"), "curve"),
            (pem!("p521.pub"), "P-256"),
            (&two, "one public key"),
            (cut, "holds no"),
            ("", "no PEM"),
            ("ssh-rsa AAAA", "no PEM"),
        ] {
            let error = load_public_key_from_pem(bad).unwrap_err();
            assert!(
                error.is_invalid_input() && error.message().contains(why),
                "{why}: {error}"
            );
        }
    }

    #[test]
    fn a_17_no_number_in_a_key_makes_it_panic() {
        let rsa = |n: &[u8], e: &[u8]| PublicKey::checked(DecodingKey::from_rsa_raw_components(n, e));
        let mut modulus = [0xff; 256];
        assert!(rsa(&modulus, &[1, 0, 1]).is_ok());
        for e in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert!(rsa(&modulus, e).is_err(), "{e:?}");
        }
        assert!(rsa(&[0; 256], &[1, 0, 1]).is_err());
        assert!(rsa(&[0xff; 513], &[1, 0, 1]).is_err());
        modulus[0] = 0x7f;
        assert!(rsa(&modulus, &[1, 0, 1]).is_err(), "2047 bits");
        for length in [0, 1, 31, 33, 64] {
            assert!(PublicKey::checked(DecodingKey::from_ed_der(&vec![1; length])).is_err());
            assert!(PublicKey::checked(DecodingKey::from_ec_der(&vec![4; length])).is_err());
        }
        assert!(
            PublicKey::checked(DecodingKey::from_ec_der(&[4; 65])).is_err(),
            "not on the curve"
        );
    }

    #[tokio::test]
    async fn a_file_that_holds_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (good, long) = (folder.path().join("good.pem"), folder.path().join("long.pem"));
        std::fs::write(&good, pem!("p256.pub")).unwrap();
        std::fs::write(&long, " ".repeat(70_000)).unwrap();
        assert!(PublicKey::read(&good).await.is_ok());
        for bad in [&long, &folder.path().join("missing.pem"), folder.path()] {
            let error = PublicKey::read(bad).await.unwrap_err();
            assert!(error.is_invalid_input(), "{error}");
            assert!(
                error
                    .context()
                    .any(|(key, value)| key == "file" && value == bad.display().to_string())
            );
        }
    }
}
