//! Headers of an event.

use std::{fmt, sync::Arc};

use crate::{Error, Result};

/// The longest header name, in bytes.
pub(super) const MAX_NAME: usize = 64;
/// The longest header value, in bytes.
pub(super) const MAX_VALUE: usize = 4096;
/// The most headers one event may have.
pub(super) const MAX_HEADERS: usize = 64;

/// Names that mean something to a broker or to the envelope begin so. Nobody sets them as a header (B-07).
const BROKER_PREFIXES: [&str; 4] = ["nats-", "ce-", "ce_", "kafka"];
/// What the envelope has beside its attributes. A header of this name would take its place on the wire.
pub(super) const CONTENT_TYPE: &str = "content-type";
/// Names that cqi sets itself: trace context, and why an event was dead-lettered.
const PROTOCOL_PREFIXES: [&str; 3] = ["traceparent", "tracestate", "cqi-"];

/// An ordered map from lower-case names to texts. Names are case-insensitive on input.
///
/// Names follow the HTTP token grammar, values are printable ASCII or UTF-8 without control characters, so that they
/// are valid on every backend and can never become a broker's control header.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Arc<str>, Arc<str>)>);

impl Headers {
    /// No headers. Allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header, or replaces the one of the same name.
    ///
    /// # Errors
    /// `InvalidInput` naming the header, when its name or value breaks the grammar, the name is reserved, or there are
    /// 64 already. Those of cqi's own do not count.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        if is_protocol(&lower) {
            return Err(refused("header name is reserved for cqi", name));
        }
        self.insert_protocol(name, value)
    }

    /// As [`Headers::insert`], for cqi itself and for adapters that read an event from the wire: the names of cqi's own
    /// protocol (`traceparent`, `tracestate`, `cqi-…`) are taken too.
    ///
    /// # Errors
    /// As [`Headers::insert`].
    pub fn insert_protocol(&mut self, name: &str, value: &str) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let why = if lower.is_empty() || lower.len() > MAX_NAME || !lower.bytes().all(token) {
            "header name must be 1 to 64 token characters"
        } else if lower == CONTENT_TYPE || BROKER_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
            "header name is reserved for the broker or the envelope"
        } else if value.len() > MAX_VALUE || value.contains(char::is_control) {
            "header value must be at most 4096 bytes without control characters"
        } else if let Some(old) = self.0.iter_mut().find(|(name, _)| **name == *lower) {
            old.1 = value.into();
            return Ok(());
        } else if self.0.len() >= MAX_HEADERS && !is_protocol(&lower) && self.users() >= MAX_HEADERS {
            "an event may have at most 64 headers"
        } else {
            self.0.push((lower.into(), value.into()));
            return Ok(());
        };
        Err(refused(why, name))
    }

    /// How many there are that are not cqi's own.
    fn users(&self) -> usize {
        self.0.iter().filter(|(name, _)| !is_protocol(name)).count()
    }

    /// Takes a header away, if it is there; the name's case does not matter.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    }

    /// The value of a header; the name's case does not matter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// All headers, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

fn is_protocol(lower: &str) -> bool {
    PROTOCOL_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
}

fn refused(why: &'static str, name: &str) -> Error {
    Error::invalid_input(why).with_context("header", crate::name::shown(name))
}

impl fmt::Debug for Headers {
    /// Shows names only: values may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ML-MSG-2: header names have no case.
    #[test]
    fn names_are_case_insensitive_and_replaced() {
        let mut headers = Headers::new();
        headers.insert("Tenant", "a").unwrap();
        headers.insert("tenant", "é b").unwrap();
        assert_eq!((headers.len(), headers.get("TENANT")), (1, Some("é b")));
        headers.remove("Tenant");
        headers.remove("other");
        assert!(headers.is_empty());
    }

    #[test]
    fn b_07_control_headers_and_bad_text_are_refused() {
        let mut headers = Headers::new();
        for bad in [
            "",
            "a b",
            "a:b",
            "é",
            "Nats-Rollup",
            "nats-msg-id",
            "ce-id",
            "ce_id",
            "Content-Type",
            &"n".repeat(65),
        ] {
            assert!(headers.insert(bad, "x").unwrap_err().is_invalid_input(), "{bad}");
        }
        for bad in ["a\r\nb: c", "\0", &"v".repeat(4097)] {
            assert!(headers.insert("a", bad).unwrap_err().is_invalid_input());
        }
        assert!(headers.is_empty());
        headers.insert_protocol("traceparent", "x").unwrap();
        assert!(
            headers
                .insert_protocol("nats-rollup", "all")
                .unwrap_err()
                .is_invalid_input()
        );
    }
}
