//! The algorithms that are spoken.

use std::{fmt, str::FromStr};

use cqi_core::{Error, Result};

/// How a token is signed. There is neither `none` nor a symmetric algorithm: they cannot be asked for (ML-AUTH-9).
#[allow(missing_docs)] // the names are those of RFC 7518 and RFC 8037
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name as it stands in a token's header, for example `RS256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) const fn library(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as Library;
        match self {
            Self::Rs256 => Library::RS256,
            Self::Rs384 => Library::RS384,
            Self::Rs512 => Library::RS512,
            Self::Ps256 => Library::PS256,
            Self::Ps384 => Library::PS384,
            Self::Ps512 => Library::PS512,
            Self::Es256 => Library::ES256,
            Self::Es384 => Library::ES384,
            Self::EdDsa => Library::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    /// Reads a name, exactly as [`Algorithm::name`] writes it.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| {
                Error::invalid_input(
                    "the algorithm of tokens must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_auth_9_none_and_symmetric_algorithms_cannot_be_asked_for() {
        for bad in ["none", "None", "nOnE", "HS256", "HS512", "rs256", "", "ES512"] {
            assert!(Algorithm::from_str(bad).unwrap_err().is_invalid_input(), "{bad}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_str(algorithm.name()).unwrap(), algorithm);
        }
    }
}
