//! The `Authorization` header.

use super::refused;
use crate::{Result, secret::Secret};

/// The longest credential that is looked at, in bytes.
pub const MAX_CREDENTIAL: usize = 8 << 10;

/// The credential of an `Authorization: Bearer …` header (AUTH-3, RFC 6750). The scheme's case does not matter.
///
/// # Errors
/// `Unauthorized`, as for a wrong credential, when there is no header, another scheme, no credential, one with spaces or
/// control characters, or one longer than [`MAX_CREDENTIAL`].
pub fn bearer(header: Option<&str>) -> Result<Secret> {
    let (scheme, credential) = header
        .and_then(|header| header.split_once(' '))
        .ok_or_else(refused)?;
    let readable = credential.bytes().all(|byte| byte.is_ascii_graphic());
    let sane = readable && !credential.is_empty() && credential.len() <= MAX_CREDENTIAL;
    if scheme.eq_ignore_ascii_case("bearer") && sane {
        Ok(Secret::new(credential))
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_3_a_credential_is_read() {
        assert_eq!(bearer(Some("Bearer abc.def")).unwrap().expose(), "abc.def");
        assert_eq!(bearer(Some("bEARER abc")).unwrap().expose(), "abc");
    }

    #[test]
    fn auth_7_all_else_is_refused_alike() {
        let long = format!("Bearer {}", "a".repeat(MAX_CREDENTIAL + 1));
        let wrong = [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer  abc"),
            Some("Basic abc"),
            Some("Bearer a b"),
            Some("Bearer a\u{e9}"),
            Some(&long),
        ];
        for header in wrong {
            let error = bearer(header).unwrap_err();
            assert_eq!(error.to_string(), refused().to_string(), "{header:?}");
            assert!(error.is_unauthorized());
        }
    }
}
