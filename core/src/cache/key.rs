//! How cache keys are built and checked.

use std::fmt::{Display, Write as _};

use crate::{Error, Result};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;

/// Joins a prefix and parts with `:` (CCH-5): `key("asset", ["BTC"])` is `asset:BTC`.
///
/// A `:` or `%` inside a part is written as `%3A` or `%25`, so that different parts never give the same key. A `{` is written
/// as `%7B`: on Redis Cluster only the prefix can say which keys are kept together, and no user's text (K-03).
///
/// ```
/// use cqi_core::cache::key;
/// assert_eq!(key("position", ["p1", "BTC"]), "position:p1:BTC");
/// assert_ne!(key("a", ["b:c"]), key("a", ["b", "c"]));
/// ```
pub fn key<P: Display>(prefix: &str, parts: impl IntoIterator<Item = P>) -> String {
    let mut key = prefix.to_owned();
    let mut part = String::new();
    for piece in parts {
        part.clear();
        let _ = write!(part, "{piece}"); // a String takes everything
        key.push(':');
        for c in part.chars() {
            match c {
                ':' => key.push_str("%3A"),
                '%' => key.push_str("%25"),
                '{' => key.push_str("%7B"),
                c => key.push(c),
            }
        }
    }
    key
}

/// Checks a key: 1 to 1024 bytes without ASCII control characters (ML-CACHE-6, K-01).
///
/// # Errors
/// `InvalidInput` saying which rule is broken.
pub fn check_key(key: &str) -> Result<()> {
    let why = if key.is_empty() {
        "cache key must not be empty"
    } else if key.len() > MAX_KEY {
        "cache key may have at most 1024 bytes"
    } else if key.bytes().any(|b| b.is_ascii_control()) {
        "cache key must not have control characters"
    } else {
        return Ok(());
    };
    Err(Error::invalid_input(why).with_context("key", crate::name::shown(key)))
}

/// Checks what is put before all keys of a cache, with a `:`, so that caches with different prefixes can share a server
/// (ML-CACHE-4): up to 64 letters, digits, `.`, `_` and `-`. Empty is none.
///
/// # Errors
/// `InvalidInput` saying so.
pub fn check_key_prefix(prefix: &str) -> Result<()> {
    // A `:` could end the prefix of another cache, and a `{` would put all keys on one node of a cluster.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if prefix.len() <= 64 && prefix.bytes().all(plain) {
        return Ok(());
    }
    let why = "the prefix of cache keys may have up to 64 letters, digits, `.`, `_` and `-`";
    Err(Error::invalid_input(why).with_context("prefix", crate::name::shown(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cch_5_parts_are_joined_and_never_collide() {
        assert_eq!(key("asset", ["BTC"]), "asset:BTC");
        assert_eq!(key("asset", [1, 2]), "asset:1:2");
        assert_ne!(key("a", ["%3A"]), key("a", [":"]));
    }

    #[test]
    fn k_03_a_part_names_no_slot_of_a_cluster() {
        assert_eq!(key("a", ["{x}", "}{"]), "a:%7Bx}:}%7B");
        assert_eq!(key("{a}", ["b"]), "{a}:b", "a prefix may");
    }

    #[test]
    fn k_01_bad_keys_are_refused() {
        for bad in ["", "a\r\nb", "\0", &"k".repeat(MAX_KEY + 1)] {
            assert!(check_key(bad).unwrap_err().is_invalid_input());
        }
        assert!(check_key("a*?[]{}é").is_ok());
    }

    #[test]
    fn ml_cache_4_a_prefix_ends_at_the_first_colon() {
        for bad in ["a:b", "{a}", "a b", "\r\n", "é", "*", &"p".repeat(65)] {
            let error = check_key_prefix(bad).unwrap_err();
            assert!(
                error.is_invalid_input() && !error.to_string().contains('\n'),
                "{error}"
            );
        }
        for good in ["", "shop", "a.b_c-1", &"p".repeat(64)] {
            assert!(check_key_prefix(good).is_ok(), "{good}");
        }
    }
}
